# llama-cpp-2 leaves the feature `common` of its -sys crate on. Nothing of it is linked here (command
# line helpers, chat parsers), and it takes as long to build as the kernels.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)

# Built for another machine than this one, ggml keeps to ARMv8.0. The environment may say more, such
# as GGML_CPU_ARM_ARCH=armv8.2-a+dotprod (the bindings would overrule it).
if(DEFINED ENV{GGML_CPU_ARM_ARCH})
    set(GGML_CPU_ARM_ARCH "$ENV{GGML_CPU_ARM_ARCH}" CACHE STRING "" FORCE)
endif()

# GCC 12 leaves out most of what ggml's AMX kernels write before they load a tile configuration, and
# the program ends with a segmentation fault. Machines with AMX are not what this project is for.
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-mno-amx-tile HAS_AMX_FLAGS)
if(HAS_AMX_FLAGS)
    add_compile_options(-mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
endif()
