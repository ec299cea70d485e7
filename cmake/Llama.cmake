# llama.cpp: builds what is used of the pinned source once per flavour, outside the build folders, so that the
# presets share it. Defines the imported targets hs_llama (C API) and hs_llama_common (C++: templates, schemas).
#
#   -DLLAMA_DIR=PREFIX      use an installed llama.cpp instead
#   -DGGML_CUDA=ON etc.     every GGML_* option is passed through, and makes a flavour of its own
#   -DHS_LLAMA_SANITIZE=thread   instrumented (the tsan preset), with GGML_OPENMP=OFF
#   -DHS_CPU_VARIANTS=all   CPU variants to build; the best one is chosen at run time (never GGML_NATIVE)

set(HS_DEPS_DIR "${CMAKE_SOURCE_DIR}/deps" CACHE PATH "Folder of fetched and built dependencies")
set(HS_LLAMA_SANITIZE "" CACHE STRING "Sanitizer to build llama.cpp with: empty or thread")
set(HS_CPU_VARIANTS "x64;haswell;skylakex;icelake;zen4;alderlake" CACHE STRING
    "CPU variants of ggml to build on x86-64, or all")
set(HS_LLAMA_SRC "${HS_DEPS_DIR}/src/llama.cpp")

if(NOT EXISTS "${HS_LLAMA_SRC}/include/llama.h")
    message(FATAL_ERROR "llama.cpp is not fetched: run 'make deps' first")
endif()

set(hs_llama_options
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON
    -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON
    -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_SERVER=OFF
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF)
if(HS_LLAMA_SANITIZE STREQUAL "thread")
    list(APPEND hs_llama_options -DLLAMA_SANITIZE_THREAD=ON -DGGML_OPENMP=OFF)
endif()
get_cmake_property(hs_cache_variables CACHE_VARIABLES)
foreach(hs_variable IN LISTS hs_cache_variables)
    if(hs_variable MATCHES "^GGML_")
        list(APPEND hs_llama_options "-D${hs_variable}=${${hs_variable}}")
    endif()
endforeach()
string(SHA256 hs_llama_flavour "${hs_llama_options};${HS_CPU_VARIANTS};${LLAMA_SDIST_SHA256}")
string(SUBSTRING "${hs_llama_flavour}" 0 12 hs_llama_flavour)
set(HS_LLAMA_BUILD "${HS_DEPS_DIR}/build/llama-${hs_llama_flavour}")

file(MAKE_DIRECTORY "${HS_DEPS_DIR}/build")
file(LOCK "${HS_DEPS_DIR}/build" DIRECTORY GUARD FILE TIMEOUT 3600) # two configures at once: one waits
if(NOT EXISTS "${HS_LLAMA_BUILD}/hyprstream-complete")
    message(STATUS "Building llama.cpp (flavour ${hs_llama_flavour}); this takes minutes, once")
    find_program(HS_NINJA ninja)
    if(HS_NINJA)
        set(hs_llama_generator -G Ninja)
    endif()
    execute_process(
        COMMAND ${CMAKE_COMMAND} -S ${HS_LLAMA_SRC} -B ${HS_LLAMA_BUILD} ${hs_llama_generator}
            ${hs_llama_options}
        COMMAND_ERROR_IS_FATAL ANY)
    if(HS_CPU_VARIANTS STREQUAL "all" OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
        set(hs_llama_targets all)
    else()
        set(hs_llama_targets llama llama-common)
        foreach(hs_variant IN LISTS HS_CPU_VARIANTS)
            list(APPEND hs_llama_targets ggml-cpu-${hs_variant})
        endforeach()
    endif()
    include(ProcessorCount)
    ProcessorCount(hs_n_jobs)
    execute_process(
        COMMAND ${CMAKE_COMMAND} --build ${HS_LLAMA_BUILD} --parallel ${hs_n_jobs}
            --target ${hs_llama_targets}
        COMMAND_ERROR_IS_FATAL ANY)
    file(TOUCH "${HS_LLAMA_BUILD}/hyprstream-complete")
endif()

add_library(hs_llama SHARED IMPORTED GLOBAL)
set_target_properties(hs_llama PROPERTIES
    IMPORTED_LOCATION "${HS_LLAMA_BUILD}/bin/libllama.so"
    INTERFACE_INCLUDE_DIRECTORIES "${HS_LLAMA_SRC}/include;${HS_LLAMA_SRC}/ggml/include")
foreach(hs_lib ggml ggml-base)
    add_library(hs_${hs_lib} SHARED IMPORTED GLOBAL)
    set_target_properties(hs_${hs_lib} PROPERTIES
        IMPORTED_LOCATION "${HS_LLAMA_BUILD}/bin/lib${hs_lib}.so")
    target_link_libraries(hs_llama INTERFACE hs_${hs_lib})
endforeach()
add_library(hs_llama_common SHARED IMPORTED GLOBAL)
set_target_properties(hs_llama_common PROPERTIES
    IMPORTED_LOCATION "${HS_LLAMA_BUILD}/bin/libllama-common.so"
    INTERFACE_INCLUDE_DIRECTORIES "${HS_LLAMA_SRC}/common;${HS_LLAMA_SRC}/vendor"
    INTERFACE_LINK_LIBRARIES hs_llama)
