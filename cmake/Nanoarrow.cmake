# nanoarrow with its IPC part: an installed one, or the pinned source with the flatcc it brings, as
# one static library. Defines hs_nanoarrow.
if(TARGET hs_nanoarrow)
    return()
endif()
find_package(nanoarrow ${NANOARROW_PYPI_VERSION} QUIET CONFIG)
if(TARGET nanoarrow::nanoarrow_ipc)
    add_library(hs_nanoarrow INTERFACE)
    target_link_libraries(hs_nanoarrow INTERFACE nanoarrow::nanoarrow_ipc)
    return()
endif()

set(hs_nanoarrow_src "${HS_DEPS_DIR}/src/nanoarrow/arrow-nanoarrow/src")
file(GLOB hs_flatcc "${HS_DEPS_DIR}/src/nanoarrow/flatcc-*")
if(NOT EXISTS "${hs_nanoarrow_src}/nanoarrow/nanoarrow_ipc.h" OR NOT hs_flatcc)
    message(FATAL_ERROR "nanoarrow is not fetched: run 'make deps' first, name an installed one "
        "with -Dnanoarrow_DIR=DIR, or leave SQL out with -DHS_FLIGHT=OFF")
endif()
string(REPLACE "." ";" hs_nanoarrow_version "${NANOARROW_PYPI_VERSION}")
list(GET hs_nanoarrow_version 0 NANOARROW_VERSION_MAJOR)
list(GET hs_nanoarrow_version 1 NANOARROW_VERSION_MINOR)
list(GET hs_nanoarrow_version 2 NANOARROW_VERSION_PATCH)
set(NANOARROW_VERSION "${NANOARROW_PYPI_VERSION}")
set(NANOARROW_NAMESPACE_DEFINE "")
set(hs_nanoarrow_config "${CMAKE_BINARY_DIR}/nanoarrow")
configure_file("${hs_nanoarrow_src}/nanoarrow/nanoarrow_config.h.in"
    "${hs_nanoarrow_config}/nanoarrow/nanoarrow_config.h")
add_library(hs_nanoarrow STATIC
    "${hs_nanoarrow_src}/nanoarrow/common/array.c"
    "${hs_nanoarrow_src}/nanoarrow/common/array_stream.c"
    "${hs_nanoarrow_src}/nanoarrow/common/schema.c"
    "${hs_nanoarrow_src}/nanoarrow/common/utils.c"
    "${hs_nanoarrow_src}/nanoarrow/ipc/codecs.c"
    "${hs_nanoarrow_src}/nanoarrow/ipc/decoder.c"
    "${hs_nanoarrow_src}/nanoarrow/ipc/encoder.c"
    "${hs_nanoarrow_src}/nanoarrow/ipc/reader.c"
    "${hs_nanoarrow_src}/nanoarrow/ipc/writer.c"
    "${hs_flatcc}/src/runtime/builder.c"
    "${hs_flatcc}/src/runtime/emitter.c"
    "${hs_flatcc}/src/runtime/refmap.c"
    "${hs_flatcc}/src/runtime/verifier.c")
target_include_directories(hs_nanoarrow SYSTEM
    PUBLIC "${hs_nanoarrow_src}" "${hs_nanoarrow_config}"
    PRIVATE "${hs_flatcc}/include")
# An assertion of flatcc would end the program where an error can be returned.
target_compile_definitions(hs_nanoarrow PRIVATE NDEBUG)
# It reads buffers where they lie in a message, which may be at any byte.
target_compile_options(hs_nanoarrow PRIVATE -w -fvisibility=hidden ${hs_sanitize_flags}
    -fno-sanitize=alignment,signed-integer-overflow)
