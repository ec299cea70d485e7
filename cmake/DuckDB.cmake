# DuckDB, fetched by scripts/bootstrap or installed: the imported target hs_duckdb.
#
#   -DDUCKDB_DIR=PREFIX         use an installed DuckDB (duckdb.h and the shared library)

set(DUCKDB_DIR "" CACHE PATH "Prefix of an installed DuckDB to use instead of the pinned one")
if(DUCKDB_DIR)
    set(hs_duckdb_places "${DUCKDB_DIR}")
else()
    set(hs_duckdb_places "${HS_DEPS_DIR}/src/duckdb")
endif()
unset(HS_DUCKDB_INCLUDE_DIR CACHE)
unset(HS_DUCKDB_LIBRARY CACHE)
find_path(HS_DUCKDB_INCLUDE_DIR duckdb.h PATHS "${hs_duckdb_places}" NO_DEFAULT_PATH
    PATH_SUFFIXES include)
find_library(HS_DUCKDB_LIBRARY duckdb PATHS "${hs_duckdb_places}" NO_DEFAULT_PATH
    PATH_SUFFIXES lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}")
if(NOT HS_DUCKDB_INCLUDE_DIR OR NOT HS_DUCKDB_LIBRARY)
    message(FATAL_ERROR "DuckDB is not in ${hs_duckdb_places}: run 'make deps' first, name an "
        "installed one with -DDUCKDB_DIR=PREFIX, or leave SQL out with -DHS_FLIGHT=OFF")
endif()
add_library(hs_duckdb SHARED IMPORTED GLOBAL)
set_target_properties(hs_duckdb PROPERTIES IMPORTED_LOCATION "${HS_DUCKDB_LIBRARY}")
target_include_directories(hs_duckdb SYSTEM INTERFACE "${HS_DUCKDB_INCLUDE_DIR}")
