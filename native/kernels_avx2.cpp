#define D90_ISA d90_avx2
#include "kernels.inl"
