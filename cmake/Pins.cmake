# Reads pins.env, the single place for versions and hashes, into variables of the same names.
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../pins.env" hs_pin_lines REGEX "^[A-Z0-9_]+=")
foreach(hs_pin_line IN LISTS hs_pin_lines)
    string(REGEX MATCH "^([A-Z0-9_]+)=\"?([^\"]*)\"?$" _ "${hs_pin_line}")
    set(${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    "${CMAKE_CURRENT_LIST_DIR}/../pins.env")
