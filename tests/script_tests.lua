-- Tests of drba.lua without mpv: INTERPRETER script_tests.lua DRBA.LUA [NAME]. Run by test_script.py under Lua 5.1 and LuaJIT.

local here = arg[0]:match("^(.*/)") or "./"
package.path = here .. "?.lua;" .. package.path
local stub = require "mpv_stub"
stub.script = arg[1]

local tests = {}
local function test(name, fn) tests[#tests + 1] = {name, fn} end

local function equal(found, expected, what)
    if found ~= expected then
        error(string.format("%s: found %s, expected %s", what or "value", tostring(found), tostring(expected)), 2)
    end
end

local function contains(text, part)
    if not text or not text:find(part, 1, true) then
        error(string.format("%q is not in %q", part, tostring(text)), 2)
    end
end

-- A film with the DRBA track on, in a stubbed mpv; the track's id is 2.
local function playing(changes)
    changes = changes or {}
    changes.properties = changes.properties or {}
    local own = {type = "video", id = 1, selected = true, ["ff-index"] = 0, ["demux-fps"] = 24, ["demux-h"] = 1080}
    changes.properties["track-list"] = {own, {type = "audio", id = 1, selected = true}}
    changes.properties.vid = 1
    changes.properties["video-params"] = {colormatrix = "bt.709", rotate = 0}
    local drba, world = stub.load(changes)
    world.messages.on()
    world.tell("ready", {log = "/state/bridge.log"})
    world.tell("opened", {id = "1", url = "http://x/1", source_fps = 24, output_fps = 48, level = "flow"})
    table.insert(world.properties["track-list"], {type = "video", id = 2, external = true, ["external-filename"] = "http://x/1"})
    world.async[#world.async].done(true)
    return drba, world
end

local SNAPSHOT = {
    wanted = true, bridge = "ready", on = true, announced = true, source_fps = 24000 / 1001, output_fps = 48000 / 1001,
    display_fps = 60, model = "flow", engine = "cpu", building = "", progress = 0, ms = 17.94, budget_ms = 41.7,
    render_ms = {10, 20, 50}, level = "flow", mode = "auto", why = "", reduced = false, lead_s = 1.916, queue = 4,
    interpolated = 512, held = 12, cut = 2, late = 0, reduced_frames = 0, avsync = 0.42, dropped_output = 0,
    dropped_decoder = 0, connected = true, restarts = 0,
}

local function snapshot(changes)
    local copy = {}
    for name, value in pairs(SNAPSHOT) do copy[name] = value end
    for name, value in pairs(changes or {}) do copy[name] = value end
    return copy
end

local function value_of(rows, label)
    for _, row in ipairs(rows) do
        if row[1] == label then return row[2], row[3] end
    end
end

-- Text ---------------------------------------------------------------------------------------------------------------

test("rates lose zeros that say nothing", function()
    local drba = stub.load()
    for rate, text in pairs({[24] = "24", [24000 / 1001] = "23.976", [60] = "60", [29.97] = "29.97", [100] = "100"}) do
        equal(drba.rate_text(rate), text)
    end
end)

test("text for the screen cannot become ASS commands", function()
    local drba = stub.load()
    equal(drba.ass_escape("{\\b1}"), "\\{\\\226\129\160b1}")
    equal(drba.ass_escape("two\nlines"), "two lines")
end)

test("long text is cut between characters", function()
    local drba = stub.load()
    equal(drba.shortened("short", 5), "short")
    equal(drba.shortened("longer", 5), "long…")
    equal(drba.shortened("Zoë's Füße", 8), "Zoë's F…")
    equal(drba.shortened("日本語", 3), "日本語")
    equal(drba.shortened("日本語版", 3), "日本…")
    equal(drba.shortened("", 3), "")
end)

test("addresses are told from paths by mpv's rule", function()
    local drba = stub.load()
    for _, path in ipairs({"http://a/b", "edl://x", "file:///a", "rtsp+x-1.0://h"}) do equal(drba.is_url(path), true, path) end
    for _, path in ipairs({"C:\\a.mkv", "/a/b://c.mkv", "a b.mkv", "://x", "1a://x", "C:/a", "\\\\host\\share\\a.mkv"}) do
        equal(drba.is_url(path), false, path)
    end
end)

test("paths become absolute by the rules of the system", function()
    local odd = "it's \"odd\" – Zoë 日本 #1 %20.mkv"
    local drba = stub.load({properties = {["working-directory"] = "/my films"}})
    equal(drba.full_path(odd), "/my films/" .. odd)
    equal(drba.full_path("/a b/c.mkv"), "/a b/c.mkv")
    equal(drba.full_path("https://host/a b"), "https://host/a b")
    drba = stub.load({windows = true, properties = {["working-directory"] = "C:\\Users\\Zoë"}})
    equal(drba.full_path("a b.mkv"), "C:\\Users\\Zoë\\a b.mkv")
    equal(drba.full_path("D:\\films\\a.mkv"), "D:\\films\\a.mkv")
    equal(drba.full_path("\\\\nas\\films\\a.mkv"), "\\\\nas\\films\\a.mkv")
end)

test("the program is found beside the script's folder", function()
    local folder = stub.script:match("^(.*/)")
    for _, place in ipairs({"../.venv/bin/drba", "../.venv/Scripts/drba.exe"}) do
        local drba = stub.load({files = {[folder .. place] = true}})
        equal(drba.bridge_program(), folder .. place)
    end
    equal(stub.load().bridge_program(), "drba")
    local drba = stub.load({options = {command = "~~/x y"}, expand = function(path) return (path:gsub("~~", "/conf")) end})
    equal(drba.bridge_program(), "/conf/x y")
end)

-- Starting by itself ------------------------------------------------------------------------------------------------

test("the limits of auto=yes", function()
    local drba = stub.load()
    local limits = {max_fps = 31, max_height = 1440}
    for _, case in ipairs({
        {24, 1080, true}, {29.97, 1440, true}, {31, 1440, true}, {50, 1080, false}, {24, 2160, false},
        {nil, 1080, nil}, {0, 1080, nil}, {nil, 2160, false}, {24, nil, true},
    }) do
        equal(drba.within_limits(case[1], case[2], limits), case[3], tostring(case[1]) .. " fps, " .. tostring(case[2]))
    end
end)

local function load_film(fps, options)
    local video = {type = "video", id = 1, selected = true, ["demux-fps"] = fps, ["demux-h"] = 720}
    local _, world = stub.load({options = options, properties = {["track-list"] = {video}}})
    world.events["file-loaded"]()
    return world
end

test("auto decides by the film", function()
    for _, case in ipairs({{"no", 24, false}, {"yes", 24, true}, {"yes", 60, false}, {"always", 60, true}}) do
        local world = load_film(case[2], {auto = case[1]})
        equal(#world.async > 0, case[3], case[1] .. " at " .. case[2])
    end
end)

test("auto waits for a rate that the container does not say", function()
    for rate, begins in pairs({[24] = true, [60] = false}) do
        local world = load_film(nil, {auto = "yes"})
        equal(#world.async, 0)
        world.observers["estimated-vf-fps"]("estimated-vf-fps", rate)
        equal(#world.async > 0, begins, rate)
    end
end)

test("a value of auto that does not exist is named and means no", function()
    local world = load_film(24, {auto = "maybe"})
    equal(#world.async, 0)
    contains(world.log[1], "expected no, yes or always, got maybe")
end)

test("an audio file is not told that it has no pictures unless somebody asks", function()
    local _, world = stub.load({options = {auto = "always"}})
    world.events["file-loaded"]()
    equal(#world.shown, 0)
    world.keys.toggle.fn()
    contains(world.last_shown(), "no video is playing")
end)

test("a hint waits until mpv's own message has gone", function()
    local _, world = stub.load({
        options = {auto = "always"},
        properties = {["osd-playing-msg"] = "a.mkv", ["track-list"] = {{type = "video", id = 1, selected = true}}},
    })
    world.events["file-loaded"]()
    equal(#world.shown, 0)
    world.pass(0.9)
    equal(#world.shown, 0)
    world.pass(0.2)
    equal(world.last_shown(), "DRBA: starting")
    world.keys.toggle.fn()
    equal(world.last_shown(), "DRBA off", "what somebody asked for is said at once")
end)

-- What is remembered -------------------------------------------------------------------------------------------------

test("a path's hash is 16 digits and its own", function()
    local drba = stub.load()
    local seen = {}
    for number = 1, 5000 do
        local key = drba.hash("/films/season 1/episode " .. number .. ".mkv")
        assert(key:find("^%x+$") and #key == 16, key)
        assert(not seen[key], "twice the same: " .. key)
        seen[key] = true
    end
    equal(drba.hash("a"), drba.hash("a"))
    assert(drba.hash(("x"):rep(100000)) ~= drba.hash(("x"):rep(100001)))
end)

test("the memory of films keeps the newest and forgets the oldest", function()
    local drba = stub.load()
    local text = "damaged line\n\n0123 yes\n"
    equal(#drba.parse_memory(text), 0)
    for number = 1, 5 do text = drba.changed_memory(text, string.format("%016x", number), number % 2 == 0, 3) end
    equal(text, "0000000000000003 no\n0000000000000004 yes\n0000000000000005 no\n")
    text = drba.changed_memory(text, "0000000000000003", true, 3)
    equal(text, "0000000000000004 yes\n0000000000000005 no\n0000000000000003 yes\n")
    equal(#drba.parse_memory(text), 3)
end)

test("the memory is where this mpv keeps such things, or nowhere", function()
    local function place(folders)
        return stub.load({expand = function(path) return folders[path] end}).memory_path()
    end
    equal(place({["~~state/"] = "/state/mpv", ["~~home/"] = "/conf"}), "/state/mpv/drba-films.txt")
    equal(place({["~~state/"] = "", ["~~home/"] = "/conf"}), "/conf/drba-films.txt", "before mpv 0.36")
    equal(place({["~~state/"] = "", ["~~home/"] = ""}), nil, "--no-config")
end)

local function with_memory(options)
    local folder = os.tmpname() .. " d"
    os.execute("mkdir '" .. folder .. "'")
    local changes = {options = options, expand = function(path) return path == "~~state/" and folder or path end}
    changes.properties = {["track-list"] = {{type = "video", id = 1, selected = true, ["demux-fps"] = 24}}}
    return changes, folder
end

local function begins(changes)
    local _, world = stub.load(changes)
    world.events["file-loaded"]()
    return #world.async > 0, world
end

test("a film begins as the key has left it, another one by the options", function()
    local changes, folder = with_memory()
    local _, world = begins(changes)
    world.keys.toggle.fn()
    equal((begins(changes)), true, "as left on")
    changes.properties.path = "b.mkv"
    equal((begins(changes)), false, "another film")
    changes.properties.path = "a.mkv"
    _, world = begins(changes)
    world.keys.toggle.fn()
    changes.options = {auto = "yes"}
    equal((begins(changes)), false, "as left off")
    changes.options = {auto = "yes", remember = false}
    equal((begins(changes)), true, "remember=no")
    changes.options = {auto = "always"}
    equal((begins(changes)), true, "auto=always")
    os.execute("rm -r '" .. folder .. "'")
end)

test("a full disk leaves what was remembered", function()
    local changes, folder = with_memory()
    local _, world = begins(changes)
    world.keys.toggle.fn()
    local open = io.open
    for _, fails in ipairs({"write", "close"}) do
        _, world = begins(changes)
        io.open = function(path, how)   -- luacheck: ignore 122
            if how ~= "w" then return open(path, how) end
            local file = {write = function() return fails ~= "write" end, close = function() return fails ~= "close" end}
            open(path, how):close()
            return file
        end
        world.keys.toggle.fn()
        io.open = open   -- luacheck: ignore 122
        contains(world.log[#world.log], "cannot write")
        equal((begins(changes)), true, "as it was left on")
        equal(open(folder .. "/drba-films.txt.new"), nil, "a half file")
    end
    os.execute("rm -r '" .. folder .. "'")
end)

test("what a profile or another script says is not remembered", function()
    local changes, folder = with_memory()
    local _, world = begins(changes)
    world.messages.on()
    equal((begins(changes)), false)
    os.execute("rmdir '" .. folder .. "'")   -- fails where anything was written
    assert(not io.open(folder, "r"), "something was written")
end)

-- Tracks and the bridge ----------------------------------------------------------------------------------------------

test("turning on and off leaves mpv as it was", function()
    local _, world = playing({properties = {["watch-later-options"] = {"start", "vid", "vf", "volume"}}})
    equal(world.properties.vid, 2)
    equal(#world.properties["watch-later-options"], 2)
    contains(world.ran("vf add"), "@drba-colour:format=colormatrix=bt.709")
    world.properties.vf = {{label = "drba-colour"}, {label = "mine"}}
    world.keys.toggle.fn()
    equal(world.properties.vid, 1)
    equal(#world.properties["watch-later-options"], 4)
    assert(world.ran("vf remove @drba-colour"))
end)

test("a bridge that dies leaves mpv as it was, and a new one is started", function()
    local _, world = playing({properties = {["watch-later-options"] = {"vid", "volume"}, ["video-rotate"] = 90}})
    world.properties.vf = {{label = "drba-colour"}}
    local started = #world.async
    world.async[1].done(true, {status = -9, stderr = ""})
    equal(world.properties.vid, 1)
    equal(world.properties["video-rotate"], 90)
    equal(#world.properties["watch-later-options"], 2)
    assert(world.ran("video-remove 2"))
    equal(#world.async, started + 1, "a new bridge")
end)

-- Beats pass, one of them answered or not.
local function beats(world, count, answered)
    for _ = 1, count do
        world.pass(0.25)
        if answered then world.tell("beat", {}) end
    end
end

test("a bridge that hangs gives way to the film's own picture until it answers", function()
    local _, world = playing()
    beats(world, 20, true)
    equal(world.properties.vid, 2, "it answers")
    beats(world, 3, false)
    equal(world.properties.vid, 2, "three beats may be late")
    beats(world, 1, false)
    equal(world.properties.vid, 1)
    contains(world.log[#world.log], "the bridge does not answer")
    beats(world, 10, false)
    equal(world.ran("video-remove"), nil, "its track stays")
    equal(world.aborted, nil)
    local said = #world.log
    world.tell("beat", {})
    equal(world.properties.vid, 2)
    beats(world, 20, true)
    equal(world.properties.vid, 2)
    equal(#world.log, said)
end)

test("a bridge that hangs for ten seconds is ended, and a new one is started", function()
    local _, world = playing()
    local started = #world.async
    beats(world, 40, false)
    equal(world.aborted, world.async[1].command)
    world.async[1].done(true, {status = 0, killed_by_us = true, stderr = ""})
    assert(world.ran("video-remove 2"))
    equal(#world.async, started + 1)
    equal(world.properties.vid, 1)
end)

test("switched off while the bridge hangs, it stays off", function()
    local _, world = playing()
    beats(world, 8, false)
    world.keys.toggle.fn()
    beats(world, 8, true)
    equal(world.properties.vid, 1)
    world.keys.toggle.fn()
    equal(world.properties.vid, 2, "and on again at once")
end)

test("a film that is left while the bridge hangs is forgotten", function()
    local _, world = playing()
    beats(world, 8, false)
    world.events["end-file"]()
    beats(world, 50, false)
    equal(world.aborted, nil)
end)

test("bridges that have drawn something are replaced whenever they die, others three times a minute", function()
    for draws, restarts in pairs({[true] = 20, [false] = 3}) do
        local _, world = playing()
        for number = 1, restarts + 1 do
            world.async[#world.async - 1].done(true, {status = -9, stderr = ""})
            local again = (world.async[#world.async].command.args or {})[2] == "bridge"
            equal(again, draws or number <= restarts, "restart " .. number)
            if not again then break end
            table.remove(world.properties["track-list"])
            world.tell("ready", {log = "/state/bridge.log"})
            local id, url = tostring(number + 1), "http://x/" .. number + 1
            world.tell("opened", {id = id, url = url, source_fps = 24, output_fps = 48, level = "flow"})
            table.insert(world.properties["track-list"],
                {type = "video", id = 2, external = true, ["external-filename"] = url})
            world.async[#world.async].done(true)
            world.properties["time-pos"] = number
            if draws then world.tell("interpolating", {id = id, time_s = 0, level = "flow"}) end
            world.pass(1)
        end
    end
end)

test("a bridge that gives up is not started again; the reason and its log are shown", function()
    local _, world = playing()
    local started = #world.async
    world.async[1].done(true, {status = 2, stderr = "drba bridge: no server\n"})
    equal(#world.async, started)
    equal(world.last_shown(), "DRBA cannot start: drba bridge: no server\nlog: /state/bridge.log")
    equal(world.properties.vid, 1)
end)

test("another video track of the film is followed", function()
    local _, world = playing()
    world.properties["track-list"][1].selected = false
    table.insert(world.properties["track-list"], 2, {type = "video", id = 3, selected = true, ["ff-index"] = 1})
    world.properties.vid = 3
    world.observers.vid()
    assert(world.ran("video-remove 2"))
    contains(world.commands[#world.commands], '"id":"2"')
    contains(world.commands[#world.commands], '"stream":1')
    contains(world.commands[#world.commands], '"video":1')
end)

test("the film's own track, chosen by other means, is off; the added one is on", function()
    local _, world = playing()
    world.properties.vid = 1
    world.observers.vid()
    world.properties.vid = 2
    world.observers.vid()
    world.keys.toggle.fn()
    equal(world.last_shown(), "DRBA off")
    equal(world.properties.vid, 1)
end)

test("an answer to an older request is nobody's", function()
    local _, world = playing()
    local before = #world.async
    world.tell("opened", {id = "0", url = "http://x/0", source_fps = 24, output_fps = 48})
    equal(#world.async, before)
end)

test("where the film changes its own track takes over, and behind that DRBA begins anew as the film is there", function()
    local _, world = playing()
    local lost = {id = "1", time_s = 10.0, reason = "the picture changes", again = true}
    equal(world.properties.vid, 2)
    world.properties["time-pos"] = 9.9
    world.tell("lost", lost)
    equal(world.properties.vid, 1)
    local before = #world.commands
    world.observers["time-pos"]()
    equal(#world.commands, before)
    world.properties["time-pos"] = 10.1
    world.observers["time-pos"]()
    contains(world.commands[#world.commands], '"at_s":10.1')
end)

test("a film whose times go back, or that changes too often, is left to mpv with one line", function()
    local _, world = playing()
    world.tell("lost", {id = "1", time_s = 10.0, reason = "the film's times jump back", again = false})
    equal(world.properties.vid, 1)
    equal(world.last_shown(), "DRBA off: the film's times jump back, which it cannot follow")
    world.properties["time-pos"] = 20.0
    local before = #world.commands
    world.observers["time-pos"]()
    equal(#world.commands, before)
end)

test("levels by hand go round, and the screen says what they mean now", function()
    local _, world = playing()
    for _, name in ipairs({"quality", "balanced", "fast", "source", "auto"}) do
        world.keys["next-level"].fn()
        contains(world.commands[#world.commands], '{"mode":"' .. name .. '"}')
        world.tell("drba-level", {id = "1", mode = name, level = "flow at 2x", why = "", reduced = false})
        equal(world.last_shown(), "DRBA quality: " .. name .. "\nnow flow at 2x")
    end
    world.messages.level("fast")
    contains(world.commands[#world.commands], '{"mode":"fast"}')
    world.messages.level("best")
    contains(world.log[#world.log], "expected one of auto, quality, balanced, fast, source, got best")
end)

test("a level chosen by hand before the film is open goes with the request", function()
    local drba, world = stub.load({properties = {["track-list"] = {{type = "video", id = 1, selected = true}}}})
    equal(type(drba), "table")
    world.keys["next-level"].fn()
    equal(world.last_shown(), "DRBA quality: quality\nthe best there is")
    world.events["file-loaded"]()
    world.messages.on()
    world.tell("ready", {})
    contains(world.commands[#world.commands], '"quality":"quality"')
end)

test("a profile that chooses a level counts at once", function()
    local _, world = playing()
    world.set_option("quality", "fast")
    contains(world.commands[#world.commands], '{"mode":"fast"}')
    local before = #world.commands
    world.set_option("fps", "60")
    equal(#world.commands, before, "not before the next film")
end)

test("a level that the machine needs is said once DRBA is on", function()
    local _, world = playing()
    world.tell("drba-level", {id = "1", mode = "auto", level = "flow, coarse", why = "the machine is busy", reduced = true})
    assert(not world.last_shown():find("reduced", 1, true), "not before the first in-between is shown")
    world.properties["time-pos"] = 1
    world.tell("interpolating", {id = "1", time_s = 0.5, level = "flow, coarse"})
    equal(world.last_shown(), "DRBA on: 24 -> 48, flow, coarse")
    world.tell("drba-level", {id = "1", mode = "auto", level = "source", why = "the machine is busy", reduced = true})
    equal(world.last_shown(), "DRBA reduced to source: the machine is busy")
    world.tell("drba-level", {id = "1", mode = "auto", level = "flow", why = "there is time for it", reduced = false})
    equal(world.last_shown(), "DRBA back to flow")
end)

test("web servers hear from the bridge what they hear from mpv", function()
    local _, world = playing({properties = {["user-agent"] = "UA", ["http-header-fields"] = {"X-A: 1"}, referrer = "http://r"}})
    contains(world.ran('drba-bridge open'), '"web":{"headers":["X-A: 1"],"referrer":"http://r","user_agent":"UA"}')
end)

test("ordered chapters are refused, not shown at wrong times", function()
    local _, world = stub.load({
        properties = {["track-list"] = {{type = "video", id = 1, selected = true}}, ["current-demuxer"] = "timeline"},
    })
    world.events["file-loaded"]()
    world.keys.toggle.fn()
    contains(world.last_shown(), "ordered chapters")
end)

test("an mpv of old lacks most of it and plays", function()
    local _, world = playing({absent = {"create_osd_overlay"}})   -- and no watch-later-options, menu-data, user-data
    equal(world.properties.vid, 2)
    world.keys.statistics.fn()
    contains(world.ass, "DRBA")
    world.keys.statistics.fn()
    equal(world.ass, "")
    world.keys.toggle.fn()
    equal(world.properties.vid, 1)
    equal(world.properties["watch-later-options"], nil)
end)

test("keys have names, so that they can be moved", function()
    local _, world = stub.load()
    local found = {}
    for name, key in pairs(world.keys) do found[#found + 1] = name .. "=" .. tostring(key.key) end
    table.sort(found)
    equal(table.concat(found, " "), "cancel-build=nil next-level=Ctrl+d statistics=Alt+d toggle=D")
end)

-- Menu ---------------------------------------------------------------------------------------------------------------

test("the menu gets one entry, again when mpv has written the menu anew", function()
    local _, world = playing({properties = {["menu-data"] = {{title = "Play"}}}})
    local function entries()
        local count = 0
        for _, item in ipairs(world.properties["menu-data"]) do count = count + (item.title == "DRBA" and 1 or 0) end
        return count
    end
    equal(entries(), 1)
    world.properties["menu-data"] = {{title = "Play"}}
    world.observers["menu-data"](nil, world.properties["menu-data"])
    equal(entries(), 1)
    local entry = world.properties["menu-data"][3]
    equal(entry.submenu[1].cmd, "script-binding drba/toggle")
    equal(entry.submenu[1].state[1], "checked")
    world.keys.toggle.fn()
    equal(world.properties["menu-data"][3].submenu[1].state, nil)
    equal(entries(), 1)
end)

test("where there is no menu, none is made", function()
    for _, menu in ipairs({false, {}}) do
        local _, world = playing({properties = {["menu-data"] = menu or nil}})
        equal(menu and #world.properties["menu-data"] or world.properties["menu-data"], menu and 0 or nil)
    end
end)

-- Statistics ---------------------------------------------------------------------------------------------------------

test("the page says what is played", function()
    local drba = stub.load()
    local rows = drba.page_rows(snapshot())
    for _, case in ipairs({
        {"DRBA", "on"},
        {"Frame rate", "23.976 → 47.952 fps, display 60 Hz"}, {"Model", "flow on cpu"},
        {"In-between", "17.9 ms of 41.7 ms"}, {"Level", "flow, chosen automatically"},
        {"Ahead", "1.92 s, 4 on the way"}, {"Frames", "512 interpolated, 12 held, 2 at cuts"}, {"A/V", "+0.4 ms"},
        {"Dropped", "0 by the output, 0 by the decoder"}, {"Server", "connected, 0 restarts"},
    }) do
        equal(value_of(rows, case[1]), case[2], case[1])
    end
    equal(value_of(rows, "Building"), nil)
    equal(value_of(drba.page_rows(snapshot({server = "desktop"})), "Server"), "desktop, connected, 0 restarts")
end)

test("the page's first line is the state", function()
    local drba = stub.load()
    for _, case in ipairs({
        {{wanted = false}, "off"}, {{failure = "no server"}, "failed: no server"},
        {{bridge = "starting", on = false}, "starting"},
        {{on = false, opening = true}, "starting"}, {{announced = false}, "starting"}, {{reduced = true}, "on, reduced"},
    }) do
        equal(value_of(drba.page_rows(snapshot(case[1])), "DRBA"), case[2])
    end
end)

test("the page says what is not known by a dash", function()
    local drba, world = stub.load()
    local rows = drba.page_rows(drba.snapshot())
    equal(value_of(rows, "Frame rate"), "–")
    equal(value_of(rows, "In-between"), "–")
    equal(value_of(rows, "A/V"), "–")
    world.keys.statistics.fn()
    contains(world.overlay.data, "no in-between was rendered yet")
end)

test("the page shows a build and a level chosen by hand", function()
    local drba = stub.load()
    local rows = drba.page_rows(snapshot({building = "tensorrt", progress = 0.404, mode = "fast", level = "flow at 2x"}))
    equal(value_of(rows, "Building"), "tensorrt engine, 40 %")
    equal(value_of(rows, "Level"), "flow at 2x, quality fast")
end)

test("the graph has a bar for each time, clipped to its box, and the budget as a line", function()
    local drba = stub.load()
    local events = drba.graph_events({10, 1000, 20}, 40, 0, 0, 600, 80)
    equal(drba.graph_top({10, 1000, 20}, 40), 160)
    equal(#events, 4, "box, bars within, bars above, line")
    contains(events[2], "m 570 75 l 579 75 l 579 80 l 570 80")
    contains(events[3], "m 580 0 l 589 0 l 589 80 l 580 80")
    contains(events[4], "m 0 59 l 600 59 l 600 61 l 0 61")
    for _, event in ipairs(events) do
        for x, y in event:gmatch("(%-?%d+) (%-?%d+) l") do
            assert(tonumber(x) >= 0 and tonumber(x) <= 600 and tonumber(y) >= 0 and tonumber(y) <= 80, event)
        end
    end
    equal(#drba.graph_events({}, nil, 0, 0, 600, 80), 1, "an empty box")
    assert(drba.graph_top({}, nil) > 0)
end)

test("the page is drawn twice a second only while it is shown", function()
    local _, world = playing()
    equal(world.page_timer.dead, true)
    world.keys.statistics.fn()
    equal(world.page_timer.dead, false)
    world.page_timer.fn()
    equal(world.overlay.updates, 2)
    equal(world.overlay.res_y, 720)
    world.keys.statistics.fn()
    equal(world.page_timer.dead, true)
    equal(world.overlay.removed, 1)
end)

test("a message on screen and the page do not cover each other", function()
    local _, world = playing()
    world.pass(60)
    world.keys.statistics.fn()
    contains(world.overlay.data, "\\pos(24,24)")
    world.messages.off()
    contains(world.overlay.data, "\\pos(24,82)")
    world.pass(4)
    world.page_timer.fn()
    contains(world.overlay.data, "\\pos(24,24)")
end)

test("a narrow window shows the page smaller, not cut off", function()
    local drba = stub.load()
    equal(drba.canvas_rows(16 / 9), 720)
    equal(drba.canvas_rows(4 / 3), 720)
    assert(drba.canvas_rows(9 / 16) * 9 / 16 >= 620)
end)

test("text of the page cannot break out of it", function()
    local drba = stub.load()
    local page = drba.page_text(snapshot({level = "{\\pos(0,0)}"}), 0)
    assert(not page:find("{\\pos(0,0)}", 1, true))
end)

-- Run ----------------------------------------------------------------------------------------------------------------

local failures = 0
for _, entry in ipairs(tests) do
    if not arg[2] or arg[2] == entry[1] then
        local good, problem = xpcall(entry[2], debug.traceback)
        if not good then
            failures = failures + 1
            print("FAILED: " .. entry[1] .. "\n" .. problem)
        end
    end
end
os.exit(failures == 0 and 0 or 1)
