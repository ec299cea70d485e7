# embed.cmake - writes the page's files as C (page.h says what comes out):
#   cmake -DOUT=file.c -DDIR=folder -DFILES=index.html,style.css,... -P embed.cmake
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")

string(REPLACE "," ";" FILES "${FILES}")
set(arrays "")
set(rows "")
foreach(file IN LISTS FILES)
    string(MAKE_C_IDENTIFIER "${file}" id)
    string(REGEX REPLACE "^.*\\." "" suffix "${file}")
    file(SHA256 "${DIR}/${file}" hash)
    string(SUBSTRING "${hash}" 0 32 tag)
    file(READ "${DIR}/${file}" hex HEX)
    string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "static const unsigned char ${id}[] = {\n${bytes}\n};\n")
    string(APPEND rows
        "    {\"${file}\", \"${type_${suffix}}\", \"\\\"${tag}\\\"\", ${id}, sizeof ${id}},\n")
endforeach()
file(WRITE "${OUT}" "#include \"page.h\"\n\n${arrays}
const struct hs_page_file hs_page_files[] = {\n${rows}};
const size_t hs_page_n_files = sizeof hs_page_files / sizeof hs_page_files[0];\n")
