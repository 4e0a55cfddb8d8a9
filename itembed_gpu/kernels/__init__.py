"""The CUDA sources; `backends.cuda.instances` reads them and chooses among their templates."""
