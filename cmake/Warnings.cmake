# The flags of our own code; dependencies never see them.
option(HS_WERROR "Treat warnings as errors" OFF)
set(HS_SANITIZE "" CACHE STRING
    "address (with undefined), thread, fuzz (address with clang's libFuzzer), or empty")
add_library(hs_flags INTERFACE)
target_compile_features(hs_flags INTERFACE c_std_17)
target_compile_definitions(hs_flags INTERFACE _GNU_SOURCE)
target_compile_options(hs_flags INTERFACE -Wall -Wextra -Wshadow -fvisibility=hidden
    $<$<COMPILE_LANGUAGE:C>:-Wconversion -Wstrict-prototypes -Wvla>)
if(HS_WERROR)
    target_compile_options(hs_flags INTERFACE -Werror)
endif()
if(HS_SANITIZE STREQUAL "address")
    set(hs_sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=all
        -fno-omit-frame-pointer)
elseif(HS_SANITIZE STREQUAL "thread")
    set(hs_sanitize_flags -fsanitize=thread -fno-omit-frame-pointer)
elseif(HS_SANITIZE STREQUAL "fuzz")
    set(hs_sanitize_flags -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
        -fno-omit-frame-pointer)
endif()
target_compile_options(hs_flags INTERFACE ${hs_sanitize_flags})
target_link_options(hs_flags INTERFACE ${hs_sanitize_flags})
option(HS_COVERAGE "Instrument for coverage" OFF)
if(HS_COVERAGE)
    target_compile_options(hs_flags INTERFACE --coverage)
    target_link_options(hs_flags INTERFACE --coverage)
endif()
