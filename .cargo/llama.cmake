# llama-cpp-2 leaves the feature `common` of its -sys crate on. Nothing of it is linked here (command
# line helpers, chat parsers), and it takes as long to build as the kernels.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
