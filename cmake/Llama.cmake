# llama.cpp: builds what is used of the pinned source once per flavour, outside the build folders,
# so that the presets share it. Defines the imported targets hs_llama (C API) and hs_llama_common
# (C++: templates, schemas).
#
#   -DLLAMA_DIR=PREFIX          use an installed llama.cpp instead (cmake/LlamaInstalled.cmake)
#   -DGGML_CUDA=ON etc.         every GGML_* option is passed on, and makes a flavour of its own
#   -DHS_CPU_VARIANTS="a;b"     CPU variants to build, or all; the best one is chosen at run time
#   -DHS_LLAMA_SANITIZE=thread  instrumented (the tsan preset)

set(HS_DEPS_DIR "${CMAKE_SOURCE_DIR}/deps" CACHE PATH "Folder of fetched and built dependencies")
set(LLAMA_DIR "" CACHE PATH "Prefix of an installed llama.cpp to use instead of the pinned one")
if(LLAMA_DIR)
    include(LlamaInstalled)
    return()
endif()

set(HS_LLAMA_SANITIZE "" CACHE STRING "Sanitizer to build llama.cpp with: empty or thread")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(hs_cpu_variants "x64;haswell;skylakex;icelake;zen4;alderlake")
else()
    set(hs_cpu_variants all)
endif()
set(HS_CPU_VARIANTS "${hs_cpu_variants}" CACHE STRING "CPU variants of ggml to build, or all")
set(HS_LLAMA_SRC "${HS_DEPS_DIR}/src/llama.cpp")
set(HS_LLAMA_INCLUDE_DIRS "${HS_LLAMA_SRC}/include" "${HS_LLAMA_SRC}/ggml/include")

if(NOT EXISTS "${HS_LLAMA_SRC}/include/llama.h")
    message(FATAL_ERROR "llama.cpp is not fetched: run 'make deps' first, or name an installed one "
        "with -DLLAMA_DIR=PREFIX")
endif()

# The options of llama.cpp, as the script that fills its cache: the first to set one wins. RPC is
# small and lets layers lie on other machines; GGML_NATIVE would bind the result to this machine's
# CPU.
set(hs_llama_cache "")
function(hs_llama_option name value)
    string(APPEND hs_llama_cache "set(${name} [==[${value}]==] CACHE STRING \"\")\n")
    set(hs_llama_cache "${hs_llama_cache}" PARENT_SCOPE)
endfunction()
foreach(hs_variable BUILD_SHARED_LIBS GGML_BACKEND_DL GGML_CPU_ALL_VARIANTS LLAMA_BUILD_COMMON)
    hs_llama_option(${hs_variable} ON)
endforeach()
foreach(hs_variable GGML_NATIVE LLAMA_OPENSSL LLAMA_USE_PREBUILT_UI LLAMA_BUILD_TESTS
        LLAMA_BUILD_TOOLS LLAMA_BUILD_EXAMPLES LLAMA_BUILD_APP LLAMA_BUILD_SERVER LLAMA_BUILD_UI)
    hs_llama_option(${hs_variable} OFF)
endforeach()
hs_llama_option(CMAKE_BUILD_TYPE Release)
hs_llama_option(HS_CPU_VARIANTS "${HS_CPU_VARIANTS}")
if(HS_LLAMA_SANITIZE STREQUAL "thread")
    foreach(hs_variable LLAMA_SANITIZE_THREAD GGML_SANITIZE_THREAD)
        hs_llama_option(${hs_variable} ON)
    endforeach()
    hs_llama_option(GGML_OPENMP OFF)
elseif(HS_LLAMA_SANITIZE)
    message(FATAL_ERROR "HS_LLAMA_SANITIZE is ${HS_LLAMA_SANITIZE}; it can be thread, or empty")
endif()
if(GGML_NATIVE)
    message(WARNING "GGML_NATIVE is ignored: the CPU variant is chosen at run time")
endif()
set(GGML_RPC ON CACHE BOOL "llama.cpp: layers on other machines")
get_cmake_property(hs_cache_variables CACHE_VARIABLES)
foreach(hs_variable IN LISTS hs_cache_variables)
    if(hs_variable MATCHES "^GGML_|^CMAKE_(CUDA|HIP)_|^CMAKE_TOOLCHAIN_FILE$")
        hs_llama_option(${hs_variable} "${${hs_variable}}")
    endif()
endforeach()

set(hs_llama_project "${CMAKE_CURRENT_LIST_DIR}/llama")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    "${hs_llama_project}/CMakeLists.txt")
file(STRINGS "${hs_llama_project}/CMakeLists.txt" hs_llama_recipe REGEX "^ *[^# ]")
string(SHA256 hs_llama_flavour "${hs_llama_cache};${hs_llama_recipe};${LLAMA_SDIST_SHA256}")
string(SUBSTRING "${hs_llama_flavour}" 0 12 hs_llama_flavour)
# In the cache for scripts/bench-tools.
set(HS_LLAMA_BUILD "${HS_DEPS_DIR}/build/llama-${hs_llama_flavour}" CACHE INTERNAL "")
set(HS_LLAMA_LIB_DIR "${HS_LLAMA_BUILD}/bin")

# Two configures may come at once: the first one builds the flavour and the other waits.
function(hs_llama_build)
    file(MAKE_DIRECTORY "${HS_DEPS_DIR}/build")
    file(LOCK "${HS_LLAMA_BUILD}.lock" GUARD FUNCTION TIMEOUT 3600)
    if(EXISTS "${HS_LLAMA_BUILD}/hyprstream-complete")
        return()
    endif()
    file(WRITE "${HS_LLAMA_BUILD}/options.cmake" "${hs_llama_cache}")
    message(STATUS "Building llama.cpp, flavour ${hs_llama_flavour}: takes minutes, once")
    execute_process(
        COMMAND "${CMAKE_COMMAND}" -C "${HS_LLAMA_BUILD}/options.cmake" -G "${CMAKE_GENERATOR}"
            "-DHS_LLAMA_SRC=${HS_LLAMA_SRC}" -S "${hs_llama_project}" -B "${HS_LLAMA_BUILD}"
        OUTPUT_FILE "${HS_LLAMA_BUILD}/configure.log" ERROR_FILE "${HS_LLAMA_BUILD}/configure.log"
        RESULT_VARIABLE hs_result)
    if(NOT hs_result EQUAL 0)
        file(READ "${HS_LLAMA_BUILD}/configure.log" hs_log)
        message(FATAL_ERROR "llama.cpp does not configure:\n${hs_log}")
    endif()
    include(ProcessorCount)
    ProcessorCount(hs_n_jobs)
    execute_process(
        COMMAND "${CMAKE_COMMAND}" -E env "NINJA_STATUS=llama.cpp [%f/%t, %es] "
            "${CMAKE_COMMAND}" --build "${HS_LLAMA_BUILD}" --parallel ${hs_n_jobs} --target hs_llama
        RESULT_VARIABLE hs_result)
    if(NOT hs_result EQUAL 0)
        message(FATAL_ERROR "llama.cpp does not build (flavour ${hs_llama_flavour})")
    endif()
    file(TOUCH "${HS_LLAMA_BUILD}/hyprstream-complete")
endfunction()
hs_llama_build()

function(hs_llama_import target file)
    add_library(${target} SHARED IMPORTED GLOBAL)
    set_target_properties(${target} PROPERTIES
        IMPORTED_LOCATION "${HS_LLAMA_LIB_DIR}/${file}${CMAKE_SHARED_LIBRARY_SUFFIX}")
    target_include_directories(${target} SYSTEM INTERFACE ${HS_LLAMA_INCLUDE_DIRS})
endfunction()
hs_llama_import(hs_ggml_base libggml-base)
hs_llama_import(hs_ggml libggml)
hs_llama_import(hs_llama libllama)
hs_llama_import(hs_llama_common libllama-common)
target_link_libraries(hs_llama INTERFACE hs_ggml hs_ggml_base)
target_link_libraries(hs_llama_common INTERFACE hs_llama)
target_include_directories(hs_llama_common SYSTEM INTERFACE
    "${HS_LLAMA_SRC}/common" "${HS_LLAMA_SRC}/vendor")
target_compile_definitions(hs_llama_common INTERFACE HS_HAVE_LLAMA_COMMON=1)
