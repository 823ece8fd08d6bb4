-- drba.lua runs under Lua 5.1, 5.2 and LuaJIT: nothing that one of them lacks.
std = "min"
max_line_length = 130
