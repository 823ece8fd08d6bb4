-- DRBA in mpv: one key, and the picture that is playing gets in-between frames.
--
-- This script holds keys, on-screen messages and track switching, and nothing else. A bridge process (`drba bridge`), started on
-- first use, publishes the film's frames and the in-betweens as a second video track; turning DRBA on and off selects the one
-- track or the other. Needs mpv 0.33 or newer. Written for Lua 5.1.
--
-- Keys, rebindable in input.conf by name:   D script-binding drba/toggle
--                                           X script-binding drba/cancel-build (no key by default)
-- Messages:                                 script-message-to drba toggle | on | off | cancel-build

local mp = require "mp"
local msg = require "mp.msg"
local utils = require "mp.utils"

-- Options ------------------------------------------------------------------------------------------------------------
-- script-opts/drba.conf or --script-opts=drba-NAME=VALUE. player/options.py has the same table; a test compares them.

local options = {
    fps = "auto",            -- frames a second to show: auto, display, 2x, 60, 60000/1001
    model = "auto",          -- what draws the in-betweens
    engine = "auto",         -- how it is executed
    scale = 1.0,             -- optical flow scale: 0.5 faster, 2 finer
    quality = "auto",        -- auto, or a level for good: quality, balanced, fast, source
    scdet = true,            -- find scene cuts
    scdet_threshold = 0.3,   -- 0 to 1, larger finds more
    start = false,           -- begin with DRBA on
    command = "",            -- the `drba` program; empty: beside this script's folder, then in PATH
}
require("mp.options").read_options(options, "drba")

-- State --------------------------------------------------------------------------------------------------------------

local MAX_BRIDGE_RESTARTS = 3   -- in RESTART_WINDOW_S; more means that it cannot work here
local RESTART_WINDOW_S = 60
local START_TIMEOUT_S = 20
local COLOUR_FIELDS = {         -- properties of the picture that the added track must share with the film's own
    {"colormatrix", "colormatrix"}, {"colorlevels", "colorlevels"}, {"primaries", "primaries"},
    {"gamma", "gamma"}, {"chroma-location", "chroma-location"},
}

local wanted = options.start    -- whether the viewer wants DRBA; kept from file to file
local bridge = "none"           -- none, starting, ready
local bridge_deaths = {}        -- times of unexpected ends
local owned_folder = nil        -- private folder of an IPC socket that this script opened
local film = nil                -- the file that is playing: see new_film
local film_count = 0
local quitting = false

local open_film, switch_on, switch_off, say

-- Small helpers ------------------------------------------------------------------------------------------------------

say = function(text, seconds)
    msg.info(text)
    mp.osd_message(text, seconds or 3)
end

local function rate_text(rate)
    local text = string.format("%.3f", rate)
    return (text:gsub("%.?0+$", ""))
end

local function fail(reason)
    wanted = false
    if film then film.opening = false end
    say("DRBA cannot start: " .. reason, 6)
end

local function file_exists(path)
    local info = utils.file_info(path)
    return info ~= nil and info.is_file
end

local function bridge_program()
    if options.command ~= "" then return mp.command_native({"expand-path", options.command}) end
    local source = debug.getinfo(1, "S").source:match("^@(.*)$")
    if source then
        -- Where the script really is: people link it into their configuration.
        local real = mp.command_native({
            name = "subprocess", args = {"readlink", "-f", source}, playback_only = false, capture_stdout = true,
        })
        if real and real.status == 0 then source = real.stdout:gsub("%s+$", "") end
        local beside = utils.join_path(utils.split_path(source), "../.venv/bin/drba")
        if file_exists(beside) then return beside end
    end
    return "drba"
end

-- The selected video track, or nil; with what the bridge needs to find the same stream.
local function selected_video()
    for _, track in ipairs(mp.get_property_native("track-list", {})) do
        if track.type == "video" and track.selected then return track end
    end
    return nil
end

local function track_by_url(url)
    for _, track in ipairs(mp.get_property_native("track-list", {})) do
        if track.type == "video" and track["external-filename"] == url then return track end
    end
    return nil
end

-- The bridge process -------------------------------------------------------------------------------------------------

local function ask_bridge(verb, data)
    local text = utils.format_json(data)  -- it returns an error message too
    mp.commandv("script-message", "drba-bridge", verb, text)
end

-- mpv's IPC socket; opened in a new private folder where the viewer has configured none. Nil if that fails.
local function ipc_path()
    local path = mp.get_property("input-ipc-server", "")
    if path ~= "" then return mp.command_native({"expand-path", path}) end
    local base = os.getenv("XDG_RUNTIME_DIR") or os.getenv("TMPDIR") or "/tmp"
    math.randomseed(os.time() + utils.getpid() * 7919)
    local folder = string.format("%s/drba-mpv-%d-%06d", base, utils.getpid(), math.random(0, 999999))
    local made = mp.command_native({
        name = "subprocess", args = {"mkdir", "-m", "700", folder}, playback_only = false, capture_stderr = true,
    })
    if not made or made.status ~= 0 then return nil end
    owned_folder = folder
    path = folder .. "/mpv.sock"
    mp.set_property("input-ipc-server", path)
    return path
end

local function forget_bridge()
    bridge = "none"
    if film then
        if film.on then switch_off() end
        if film.track then mp.commandv("video-remove", tostring(film.track)) end
        film.url, film.track, film.opening = nil, nil, false
    end
end

local function bridge_ended(success, result, err)
    if quitting then return end
    forget_bridge()
    local last = result and result.stderr and result.stderr:match("([^\n]+)\n*$")
    local why = last or err or "it ended unexpectedly"
    if result and result.error_string == "init" then
        why = "the program `" .. bridge_program() .. "` was not found; set drba-command in script-opts"
    end
    msg.warn("bridge ended: " .. why)
    local now = mp.get_time()
    bridge_deaths[#bridge_deaths + 1] = now
    while bridge_deaths[1] and bridge_deaths[1] < now - RESTART_WINDOW_S do table.remove(bridge_deaths, 1) end
    local crashed = result and result.status and result.status < 0   -- killed by a signal: worth another try
    if wanted and crashed and #bridge_deaths <= MAX_BRIDGE_RESTARTS then
        open_film()
    elseif wanted then
        fail(why)
    end
end

local function start_bridge()
    local path = ipc_path()
    if not path then return fail("no private folder for mpv's socket could be made") end
    local args = {bridge_program(), "bridge", "--ipc", path}
    if owned_folder then
        args[#args + 1] = "--owned-folder"
        args[#args + 1] = owned_folder
    end
    bridge = "starting"
    mp.command_native_async({
        name = "subprocess", args = args, playback_only = false, capture_stderr = true, capture_size = 16384,
    }, bridge_ended)
    mp.add_timeout(START_TIMEOUT_S, function()
        if bridge == "starting" then fail("the bridge does not answer") end
    end)
end

-- Switching tracks ---------------------------------------------------------------------------------------------------

-- What is set on the player for the added track only. The container cannot say it all (chroma siting before mpv 0.40, rotation).
local function dress_track()
    local params = mp.get_property_native("video-params") or {}
    local parts = {}
    for _, field in ipairs(COLOUR_FIELDS) do
        local value = params[field[1]]
        if value and value ~= "unknown" and value ~= "auto" then parts[#parts + 1] = field[2] .. "=" .. value end
    end
    film.rotate = mp.get_property("video-rotate")
    film.turned = params.rotate or 0
    if #parts > 0 then mp.commandv("vf", "add", "@drba-colour:format=" .. table.concat(parts, ":")) end
end

-- Quitting may save the state of the player for next time: our track and what is set for it must not be in there.
local NOT_SAVED = {vid = true, vf = true, ["video-rotate"] = true}
local function keep_out_of_saved_state()
    local saved = mp.get_property_native("watch-later-options")   -- mpv 0.34 and newer
    if not saved then return end
    local kept = {}
    for _, name in ipairs(saved) do
        if not NOT_SAVED[name] then kept[#kept + 1] = name end
    end
    film.saved_state = saved
    mp.set_property_native("watch-later-options", kept)
end

local function undress_track()
    if film.saved_state then mp.set_property_native("watch-later-options", film.saved_state) end
    film.saved_state = nil
    for _, filter in ipairs(mp.get_property_native("vf", {})) do
        if filter.label == "drba-colour" then mp.commandv("vf", "remove", "@drba-colour") end
    end
    if film.rotate then mp.set_property("file-local-options/video-rotate", film.rotate) end
    film.rotate = nil
end

-- Select a video track where the film stands. Without the exact seek mpv starts the new track near the next picture it gets and
-- works the difference to the sound off over seconds.
local function select_track(id)
    mp.set_property_number("vid", id)
    mp.commandv("seek", "0", "relative+exact")
end

switch_on = function()
    film.original = mp.get_property_number("vid") or film.original
    film.on, film.announced = true, false
    keep_out_of_saved_state()
    dress_track()
    if film.turned ~= 0 then mp.set_property("file-local-options/video-rotate", tostring(film.turned)) end
    select_track(film.track)
end

switch_off = function()
    film.on = false
    undress_track()
    if mp.get_property_number("vid") == film.track then select_track(film.original) end
end

-- "on" is said when the first in-between frame is on the screen, not before.
local function announce_when_shown()
    if not film or not film.on or film.announced or not film.first_between then return end
    local position = mp.get_property_number("time-pos")
    if position and position >= film.first_between and not mp.get_property_bool("seeking") then
        film.announced = true
        say(string.format("DRBA on: %s -> %s, %s", rate_text(film.source_fps), rate_text(film.output_fps), film.level))
    end
end
mp.observe_property("time-pos", "number", function()
    if film and film.on and not film.announced then announce_when_shown() end
end)

-- The viewer may choose tracks by other means too.
mp.observe_property("vid", "number", function(_, id)
    if not film or not film.track then return end
    if film.on and id ~= film.track then
        film.on, wanted = false, false
        undress_track()
    elseif not film.on and id == film.track then
        film.on, wanted = true, true
    end
end)

-- Opening the film at the bridge -------------------------------------------------------------------------------------

local function new_film()
    film_count = film_count + 1
    return {
        id = tostring(film_count),
        opening = false,      -- asked for, not answered
        url = nil,            -- of the published track
        track = nil,          -- mpv's id of it
        original = nil,       -- mpv's id of the film's own video
        on = false,           -- whether the added track is selected
        announced = false,    -- whether "on" was said
        first_between = nil,  -- time of the first in-between frame that mpv has read
        rotate = nil,         -- the viewer's video-rotate, while ours is set
        turned = 0,           -- rotation of the film's own picture, in degrees
        saved_state = nil,    -- the viewer's watch-later-options, while ours are set
        note = "",            -- which engine draws, and why; as last logged
        building = "",        -- the engine that is being built to take over
        tenths = -1,          -- of that build, as last said
    }
end

open_film = function()
    if not film then return end
    if film.track then return switch_on() end
    if film.opening then return end
    local track = selected_video()
    if not track or track.image or track.albumart then
        return fail(track and "a still picture has nothing between its frames" or "no video is playing")
    end
    if bridge == "none" then start_bridge() end
    if bridge ~= "ready" then return end
    local path = track["external-filename"] or mp.get_property("stream-open-filename") or mp.get_property("path")
    if not path:find("://") then path = utils.join_path(mp.get_property("working-directory", ""), path) end
    film.opening = true
    ask_bridge("open", {
        id = film.id,
        path = path,
        stream = track["ff-index"],
        offset_s = mp.get_property_bool("rebase-start-time") and mp.get_property_number("demuxer-start-time", 0) or 0,
        pixel_aspect = mp.get_property_number("video-params/par", 0),
        display_fps = mp.get_property_number("display-fps", 0),
        fps = options.fps, model = options.model, engine = options.engine, scale = options.scale,
        quality = options.quality,
        scdet = options.scdet, scdet_threshold = options.scdet_threshold,
    })
end

local function on_bridge(verb, handler)
    mp.register_script_message(verb, function(text)
        local data = text and utils.parse_json(text)
        if type(data) ~= "table" then
            msg.error("message " .. verb .. ": expected a JSON object, got " .. tostring(text))
            return
        end
        handler(data)
    end)
end

on_bridge("ready", function()
    bridge = "ready"
    if wanted then open_film() end
end)

on_bridge("opened", function(data)
    if not film or data.id ~= film.id then return end
    film.opening = false
    film.url, film.source_fps, film.output_fps = data.url, data.source_fps, data.output_fps
    mp.command_native_async({"video-add", data.url, "auto", "DRBA " .. rate_text(data.output_fps) .. " fps"}, function(success, _, err)
        if not film or data.id ~= film.id then return end
        local track = success and track_by_url(data.url)
        if not track then return fail("mpv did not accept the track: " .. tostring(err)) end
        film.track = track.id
        if wanted then switch_on() end
    end)
end)

on_bridge("interpolating", function(data)
    if not film or data.id ~= film.id then return end
    film.first_between, film.level = data.time_s, data.level
    announce_when_shown()
end)

-- Which engine draws goes to the log. A build is on the screen when it starts, at every tenth of the way, and when it has ended.
on_bridge("drba-engine", function(data)
    if not film or data.id ~= film.id then return end
    local was_building = film.building ~= ""
    film.model, film.building = data.model, data.building
    if film.building ~= "" then
        local tenths = math.floor(data.progress * 10 + 1e-6)
        if tenths ~= film.tenths then
            say(string.format("DRBA: building the %s engine, %d %%", film.building, tenths * 10))
        end
        film.tenths = tenths
    elseif data.note ~= film.note then
        if was_building then say("DRBA: " .. data.note, 6) else msg.info("DRBA: " .. data.note) end
        film.note, film.tenths = data.note, -1
    end
end)

on_bridge("notice", function(data)
    say("DRBA: " .. tostring(data.text), 8)
end)

on_bridge("failed", function(data)
    if data.id ~= "" and film and data.id ~= film.id then return end
    fail(data.reason or "unknown reason")
end)

-- What the viewer asks for -------------------------------------------------------------------------------------------

local function turn_on()
    if wanted and film and (film.on or film.opening or bridge == "starting") then return end
    wanted = true
    if not film then return say("DRBA: on from the next film") end
    if not film.track then say("DRBA: starting", 10) end
    open_film()
end

local function turn_off()
    wanted = false
    if film and film.on then switch_off() end
    say("DRBA off")
end

local function toggle()
    if wanted then turn_off() else turn_on() end
end

local function file_loaded()
    film = film or new_film()
    if wanted then open_film() end
end
mp.register_event("file-loaded", file_loaded)

mp.register_event("end-file", function()
    if film and (film.url or film.opening) then ask_bridge("close", {id = film.id}) end
    if film then undress_track() end
    film = nil
end)

mp.register_event("shutdown", function()
    quitting = true
    if owned_folder then
        os.remove(owned_folder .. "/mpv.sock")
        os.remove(owned_folder)
    end
end)

-- A script may be loaded while a file is playing: drba-player loads this one, and mpv's load-script does at any time.
if selected_video() and mp.get_property_native("video-params") then file_loaded() end

local function cancel_build()
    if film and film.building ~= "" then
        ask_bridge("cancel-build", {id = film.id})
    else
        say("DRBA: no engine is being built")
    end
end

mp.add_key_binding("D", "toggle", toggle)
mp.add_key_binding(nil, "cancel-build", cancel_build)
mp.register_script_message("toggle", toggle)
mp.register_script_message("on", turn_on)
mp.register_script_message("off", turn_off)
mp.register_script_message("cancel-build", cancel_build)
