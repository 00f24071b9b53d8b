# Included after llama.cpp's project().

# Leaves out the library of its command-line tools, which llama-cpp-python asks for by force but never
# loads. A third of the build is that library.
set(LLAMA_BUILD_COMMON OFF)

# CLIP's class token comes first: positions and the choice of patches in clip.cpp count on that, but
# the graph of LLaVA's encoders puts it last, so that each patch gets its neighbour's position and the
# token counts as a part of the image (llama.cpp's issue 25814).
set(LLAVA_GRAPH ${CMAKE_CURRENT_SOURCE_DIR}/tools/mtmd/models/llava.cpp)
set(CLASS_TOKEN_LAST "ggml_concat(ctx0, inp, model.class_embedding, 1)")
set(CLASS_TOKEN_FIRST "ggml_concat(ctx0, model.class_embedding, inp, 1)")
file(READ ${LLAVA_GRAPH} GRAPH)
string(REPLACE "${CLASS_TOKEN_LAST}" "${CLASS_TOKEN_FIRST}" MENDED "${GRAPH}")
string(FIND "${MENDED}" "${CLASS_TOKEN_FIRST}" FOUND)
if(FOUND EQUAL -1)
    message(FATAL_ERROR "${LLAVA_GRAPH} has no class token where it was; see ${CMAKE_CURRENT_LIST_FILE}")
endif()
file(WRITE ${LLAVA_GRAPH} "${MENDED}")
