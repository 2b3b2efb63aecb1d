"""Kernels for processors and GPUs. The rest of the transformer chooses among them here and calls torch for the rest.

cpu               products, MLP and RMSNorm of training
narrow            norms and rotations of training in bfloat16, on a CPU
block_sparse      sparse attention of training, on a CPU
flex              sparse attention of training, on CUDA
decoding_linear   linear layers of decoding, in 32, 16 and 8 bits
cache_attention   attention of decoding, over a KV cache
"""
