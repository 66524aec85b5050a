#define D90_ISA d90_avx512
#include "kernels.inl"
