# embed.cmake - writes the page's files as C (page.h says what comes out):
#   cmake -DOUT=file.c -DDIR=folder -DFILES=index.html,style.css,... -P embed.cmake
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")

# The bytes of `file` as an array of C.
function(append_array id file)
    file(READ "${file}" hex HEX)
    # the time of compressing, at bytes 4 to 7 of what gzip gives, would make each build another one
    string(REGEX REPLACE "^(1f8b....)........" "\\100000000" hex "${hex}")
    string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    set(arrays "${arrays}static const unsigned char ${id}[] = {\n${bytes}\n};\n" PARENT_SCOPE)
endfunction()

string(REPLACE "," ";" FILES "${FILES}")
set(arrays "")
set(rows "")
foreach(file IN LISTS FILES)
    string(MAKE_C_IDENTIFIER "${file}" id)
    string(REGEX REPLACE "^.*\\." "" suffix "${file}")
    file(SHA256 "${DIR}/${file}" hash)
    string(SUBSTRING "${hash}" 0 32 tag)
    file(ARCHIVE_CREATE OUTPUT "${OUT}.gz" PATHS "${DIR}/${file}" FORMAT raw COMPRESSION GZip
        COMPRESSION_LEVEL 9)
    append_array("${id}" "${DIR}/${file}")
    append_array("${id}_gz" "${OUT}.gz")
    string(APPEND rows "    {\"${file}\", \"${type_${suffix}}\", \"\\\"${tag}\\\"\", ${id}, "
        "sizeof ${id}, \"\\\"${tag}-gz\\\"\", ${id}_gz, sizeof ${id}_gz},\n")
endforeach()
file(REMOVE "${OUT}.gz")
file(WRITE "${OUT}" "#include \"page.h\"\n\n${arrays}
const struct hs_page_file hs_page_files[] = {\n${rows}};
const size_t hs_page_n_files = sizeof hs_page_files / sizeof hs_page_files[0];\n")
