# Included after llama.cpp's project(): leaves out the library of its command-line tools, which
# llama-cpp-python asks for by force but never loads. A third of the build is that library.
set(LLAMA_BUILD_COMMON OFF)
