# lethe_enable_cuda(): what a directory with device code needs. A macro, since architectures and
# languages are the directory's.
macro(lethe_enable_cuda)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
endmacro()
