// Preloaded, this has MKL take the products that it keeps for other makers' processors, whatever this one is.
int mkl_serv_intel_cpu_true(void) { return 0; }
