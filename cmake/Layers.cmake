# hs_add_layer(NAME SOURCES... [PRIVATE libraries...]): one static library per layer, hs_<name>,
# with its own public include folder. Links are PRIVATE: a layer sees only what it names here
# (ARCHITECTURE.md says who may use whom).
function(hs_add_layer name)
    cmake_parse_arguments(ARG "" "" "SOURCES;PRIVATE" ${ARGN})
    add_library(hs_${name} STATIC ${ARG_SOURCES})
    target_include_directories(hs_${name}
        PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/include" "${CMAKE_SOURCE_DIR}/include"
        PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
    target_link_libraries(hs_${name} PRIVATE hs_flags ${ARG_PRIVATE})
endfunction()
