#define D90_ISA d90_baseline
#include "kernels.inl"
