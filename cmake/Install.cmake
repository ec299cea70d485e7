# cmake --install: a tree that can be moved as a whole. llama.cpp's libraries and CPU modules lie in
# lib/hyprstream, where no other program looks, and everything finds them relative to itself.
#
#   bin/hyprstream   include/hyprstream.h   lib/libhyprstream.so   lib/pkgconfig/hyprstream.pc
#   lib/hyprstream/  share/man/man1/hyprstream.1   share/doc/hyprstream/
#   lib/systemd/system/hyprstream.service          lib/sysusers.d/hyprstream.conf
#   share/{bash-completion,zsh,fish}/...
set(HS_PRIVATE_LIBDIR "${CMAKE_INSTALL_LIBDIR}/hyprstream")
set(hs_doc_dir "${CMAKE_BINARY_DIR}/share")

if(LLAMA_DIR)
    set(hs_rpath_bin "${HS_LLAMA_LIB_DIR}")
    set(hs_rpath_lib "${HS_LLAMA_LIB_DIR}")
else()
    file(RELATIVE_PATH hs_bin_to_lib "/${CMAKE_INSTALL_BINDIR}" "/${HS_PRIVATE_LIBDIR}")
    set(hs_rpath_bin "$ORIGIN/${hs_bin_to_lib}")
    set(hs_rpath_lib "$ORIGIN/hyprstream")
    install(DIRECTORY "${HS_LLAMA_LIB_DIR}/" DESTINATION "${HS_PRIVATE_LIBDIR}"
        USE_SOURCE_PERMISSIONS FILES_MATCHING PATTERN "lib*${CMAKE_SHARED_LIBRARY_SUFFIX}*")
    foreach(hs_licence "LICENSE llama.cpp" "licenses/LICENSE-jsonhpp nlohmann-json"
            "vendor/cpp-httplib/LICENSE cpp-httplib")
        separate_arguments(hs_licence)
        list(POP_FRONT hs_licence hs_licence_file)
        install(FILES "${HS_LLAMA_SRC}/${hs_licence_file}" RENAME "${hs_licence}"
            DESTINATION "${CMAKE_INSTALL_DOCDIR}/licenses")
    endforeach()
endif()
if(hs_flatcc) # inside the program
    install(FILES "${hs_flatcc}/LICENSE" RENAME flatcc
        DESTINATION "${CMAKE_INSTALL_DOCDIR}/licenses")
endif()
if(HS_FLIGHT AND DUCKDB_DIR)
    get_filename_component(hs_duckdb_dir "${HS_DUCKDB_LIBRARY}" DIRECTORY)
    list(APPEND hs_rpath_bin "${hs_duckdb_dir}")
elseif(HS_FLIGHT)
    install(FILES "${HS_DUCKDB_LIBRARY}" DESTINATION "${HS_PRIVATE_LIBDIR}")
    install(FILES "${HS_DEPS_DIR}/src/duckdb/LICENSE" RENAME duckdb
        DESTINATION "${CMAKE_INSTALL_DOCDIR}/licenses")
    file(RELATIVE_PATH hs_bin_to_duckdb "/${CMAKE_INSTALL_BINDIR}" "/${HS_PRIVATE_LIBDIR}")
    list(APPEND hs_rpath_bin "$ORIGIN/${hs_bin_to_duckdb}")
    list(REMOVE_DUPLICATES hs_rpath_bin)
endif()
set_target_properties(hyprstream PROPERTIES INSTALL_RPATH "${hs_rpath_bin}")
set_target_properties(hyprstream_shared PROPERTIES INSTALL_RPATH "${hs_rpath_lib}")
install(TARGETS hyprstream RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(TARGETS hyprstream_shared LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(FILES "${CMAKE_SOURCE_DIR}/include/hyprstream.h"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(FILES "${CMAKE_SOURCE_DIR}/include/hyprstream/model_pool.h"
        "${CMAKE_SOURCE_DIR}/include/hyprstream/status.def"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/hyprstream")

file(RELATIVE_PATH hs_pc_to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" hs_pc_to_prefix "${hs_pc_to_prefix}")
configure_file("${CMAKE_SOURCE_DIR}/cmake/hyprstream.pc.in" "${CMAKE_BINARY_DIR}/hyprstream.pc"
    @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/hyprstream.pc"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

install(FILES README.md ARCHITECTURE.md CONTRIBUTING.md LICENSE THIRD_PARTY.md
    DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(DIRECTORY docs DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(FILES examples/chat.c DESTINATION "${CMAKE_INSTALL_DOCDIR}/examples")

# The service names the program by its path, which is known when it is installed.
install(CODE "set(HS_BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
configure_file(\"${CMAKE_SOURCE_DIR}/packaging/hyprstream.service.in\"
    \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/hyprstream.service\" @ONLY)")
install(FILES "${CMAKE_SOURCE_DIR}/packaging/hyprstream.sysusers" RENAME hyprstream.conf
    DESTINATION lib/sysusers.d)

# The man page and the completions come out of the program's own command table.
function(hs_generated file destination)
    add_custom_command(OUTPUT "${hs_doc_dir}/${file}"
        COMMAND hyprstream ${ARGN} > "${hs_doc_dir}/${file}"
        DEPENDS hyprstream VERBATIM COMMENT "Writing ${file}")
    install(FILES "${hs_doc_dir}/${file}" DESTINATION "${CMAKE_INSTALL_DATADIR}/${destination}")
    set_property(GLOBAL APPEND PROPERTY HS_GENERATED "${hs_doc_dir}/${file}")
endfunction()
if(NOT CMAKE_CROSSCOMPILING)
    file(MAKE_DIRECTORY "${hs_doc_dir}/bash" "${hs_doc_dir}/zsh" "${hs_doc_dir}/fish")
    hs_generated(hyprstream.1 man/man1 help --man)
    hs_generated(bash/hyprstream bash-completion/completions completion bash)
    hs_generated(zsh/_hyprstream zsh/site-functions completion zsh)
    hs_generated(fish/hyprstream.fish fish/vendor_completions.d completion fish)
    get_property(hs_generated_files GLOBAL PROPERTY HS_GENERATED)
    add_custom_target(hs_manual ALL DEPENDS ${hs_generated_files})
endif()
