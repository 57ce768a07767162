# Included when CMake configures llama.cpp for a check: each object is an empty file, so that the
# bindings are there within seconds. Nothing can be linked with it.
include(${CMAKE_CURRENT_LIST_DIR}/../.cargo/llama.cmake)
set(CMAKE_C_COMPILE_OBJECT "<CMAKE_COMMAND> -E touch <OBJECT>")
set(CMAKE_CXX_COMPILE_OBJECT "<CMAKE_COMMAND> -E touch <OBJECT>")
