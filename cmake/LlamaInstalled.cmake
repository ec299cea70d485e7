# An installed llama.cpp (-DLLAMA_DIR=PREFIX, shared libraries) in place of the pinned one: the same
# imported targets as cmake/Llama.cmake makes.
#
# llama-common (Jinja chat templates, tool calls, JSON schemas) is C++ and has no stable interface,
# and a llama.cpp installation carries its library without its headers. It is used when both are
# there and of one version: the headers in the source that -DLLAMA_SOURCE_DIR names, or in the
# pinned source when its llama.h is the installed one. Otherwise HS_HAVE_LLAMA_COMMON stays
# undefined, and the runtime knows only llama.cpp's built-in templates.

set(LLAMA_SOURCE_DIR "" CACHE PATH "Source of the installed llama.cpp: headers of llama-common")
set(HS_DEPS_DIR "${CMAKE_SOURCE_DIR}/deps" CACHE PATH "Folder of fetched and built dependencies")

find_path(HS_LLAMA_INCLUDE_DIR llama.h PATHS "${LLAMA_DIR}/include" NO_DEFAULT_PATH)
set(HS_LLAMA_INCLUDE_DIRS "${HS_LLAMA_INCLUDE_DIR}")
function(hs_llama_find target name)
    find_library(HS_${name}_LIBRARY ${name} NO_DEFAULT_PATH PATHS "${LLAMA_DIR}"
        PATH_SUFFIXES lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}" bin)
    if(HS_${name}_LIBRARY)
        add_library(${target} SHARED IMPORTED GLOBAL)
        set_target_properties(${target} PROPERTIES IMPORTED_LOCATION "${HS_${name}_LIBRARY}")
        target_include_directories(${target} SYSTEM INTERFACE "${HS_LLAMA_INCLUDE_DIR}")
    endif()
endfunction()
hs_llama_find(hs_ggml_base ggml-base)
hs_llama_find(hs_ggml ggml)
hs_llama_find(hs_llama llama)
hs_llama_find(hs_llama_common llama-common)
if(NOT HS_LLAMA_INCLUDE_DIR OR NOT TARGET hs_llama OR NOT TARGET hs_ggml
        OR NOT TARGET hs_ggml_base)
    message(FATAL_ERROR "LLAMA_DIR=${LLAMA_DIR} holds no llama.cpp installation: "
        "include/llama.h and shared libraries llama, ggml and ggml-base are needed")
endif()
target_link_libraries(hs_llama INTERFACE hs_ggml hs_ggml_base)
get_filename_component(HS_LLAMA_LIB_DIR "${HS_llama_LIBRARY}" DIRECTORY)

set(hs_llama_source "${LLAMA_SOURCE_DIR}")
if(NOT hs_llama_source AND EXISTS "${HS_DEPS_DIR}/src/llama.cpp/include/llama.h")
    file(SHA256 "${HS_DEPS_DIR}/src/llama.cpp/include/llama.h" hs_pinned_header)
    file(SHA256 "${HS_LLAMA_INCLUDE_DIR}/llama.h" hs_installed_header)
    if(hs_pinned_header STREQUAL hs_installed_header)
        set(hs_llama_source "${HS_DEPS_DIR}/src/llama.cpp")
    endif()
endif()
if(TARGET hs_llama_common AND EXISTS "${hs_llama_source}/common/chat.h")
    target_include_directories(hs_llama_common SYSTEM INTERFACE
        "${hs_llama_source}/common" "${hs_llama_source}/vendor")
    target_compile_definitions(hs_llama_common INTERFACE HS_HAVE_LLAMA_COMMON=1)
    target_link_libraries(hs_llama_common INTERFACE hs_llama)
    message(STATUS "llama.cpp of ${LLAMA_DIR}, with llama-common")
else()
    if(NOT TARGET hs_llama_common)
        add_library(hs_llama_common INTERFACE IMPORTED GLOBAL)
    endif()
    target_link_libraries(hs_llama_common INTERFACE hs_llama)
    message(WARNING "The llama.cpp of ${LLAMA_DIR} has no usable llama-common (library and headers "
        "of one version): chat templates are limited to those built into libllama. Its source "
        "can be named with -DLLAMA_SOURCE_DIR=DIR")
endif()
