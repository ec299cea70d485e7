# embed_text.cmake - writes a text file as a C string:
#   cmake -DIN=file.json -DOUT=file.c -DNAME=identifier -P embed_text.cmake
file(READ "${IN}" hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE "${OUT}" "extern const char ${NAME}[];\nconst char ${NAME}[] = {\n${bytes}\n0};\n")
