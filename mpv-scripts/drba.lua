-- DRBA in mpv: one key, and the picture that is playing gets in-between frames.
--
-- This script holds keys, on-screen messages and track switching, and nothing else. A bridge process (`drba bridge`), started on
-- first use, publishes the film's frames and the in-betweens as a second video track; turning DRBA on and off selects the one
-- track or the other. Needs mpv 0.33 or newer. Written for Lua 5.1; nothing that came later is used unguarded.
--
-- Keys, rebindable in input.conf by name:   D       script-binding drba/toggle
--                                           Ctrl+d  script-binding drba/next-level
--                                           Alt+d   script-binding drba/statistics
--                                           X       script-binding drba/cancel-build (no key by default)
-- Messages:   script-message-to drba toggle | on | off | level MODE | statistics | cancel-build
--
-- In this order: options, state, text, what is remembered, messages on screen, bridge, tracks, the film, menu, statistics, keys.

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
    server = "",             -- whose card renders: a machine of `drba pair --list`; empty: this one's
    scdet = true,            -- find scene cuts
    scdet_threshold = 0.3,   -- 0 to 1, larger finds more
    auto = "no",             -- begin with DRBA on: no; yes, in films within the two limits that follow; always
    max_fps = 31.0,          -- frames a second
    max_height = 1440.0,     -- rows of the picture
    remember = true,         -- begin each film as the key has left it last time
    command = "",            -- the `drba` program; empty: beside this script's folder, then in PATH
}

local MODES = {"auto", "quality", "balanced", "fast", "source"}
local MODE_MEANS = {
    auto = "as good as the machine can do just now",
    quality = "the best there is",
    balanced = "one level below the best",
    fast = "the cheapest that draws in-betweens",
    source = "the film's own frames",
}

local function is_mode(name)
    return MODE_MEANS[name] ~= nil
end

local mode = "auto"   -- of MODES: who chooses the level
local tell_mode = function() end
local function options_changed(changed)
    if options.auto ~= "no" and options.auto ~= "yes" and options.auto ~= "always" then
        msg.error("option auto: expected no, yes or always, got " .. options.auto)
        options.auto = "no"
    end
    if not changed or changed.quality then
        -- What is no mode goes to the bridge as it is: its refusal names what there is.
        mode = options.quality
        tell_mode()
    end
end
require("mp.options").read_options(options, "drba", options_changed)
options_changed()

-- State --------------------------------------------------------------------------------------------------------------

local MAX_BRIDGE_RESTARTS = 3   -- in RESTART_WINDOW_S; more means that it cannot work here
local RESTART_WINDOW_S = 60
local START_TIMEOUT_S = 20
local BEAT_S = 0.25             -- the bridge says that it is there so often while a film is open
local SILENT_BEATS = 4          -- without one, after which the film's own picture is shown: mpv has a second of 1080p ahead
local LOST_BEATS = 40           -- after which it is ended, and a new one started
local COLOUR_FIELDS = {         -- properties of the picture that the added track must share with the film's own
    {"colormatrix", "colormatrix"}, {"colorlevels", "colorlevels"}, {"primaries", "primaries"},
    {"gamma", "gamma"}, {"chroma-location", "chroma-location"},
}

local wanted = false            -- whether DRBA is to be on in the film that is playing
local choice = nil              -- what the viewer or a profile said last in this session: true, false, or nothing yet
local asked_early = false       -- whether they said so before there was a film
local bridge = "none"           -- none, starting, ready
local bridge_log = nil          -- path of its log, once it has said so
local bridge_deaths = {}        -- times of unexpected ends since one has drawn something
local bridge_call = nil         -- mpv's handle of its process
local silence = nil             -- beats that did not come while the added track is on or rests; nil: none are counted
local owned_folder = nil        -- private folder of an IPC socket that this script opened
local film = nil                -- the file that is playing: see new_film
local request_count = 0         -- films opened at the bridge so far: answers to older requests are dropped
local quitting = false

local open_film, switch_on, switch_off, watch_bridge, update_menu, update_statistics

-- Text: pure ---------------------------------------------------------------------------------------------------------

local function rate_text(rate)
    local text = string.format("%.3f", rate)
    return (text:gsub("%.?0+$", ""))
end

-- By mpv's own rule: a letter, then letters, digits and + - . up to the ://
local function is_url(path)
    return path:find("^%a[%w+.-]*://") ~= nil
end

-- Text that stands for itself in an ASS event.
local function ass_escape(text)
    text = text:gsub("\\", "\\\226\129\160")   -- a word joiner after it: it begins nothing
    return (text:gsub("{", "\\{"):gsub("\n", " "))
end

-- At most `length` characters of UTF-8.
local function shortened(text, length)
    local count, last = 0, 1
    for at in text:gmatch("()[%z\1-\127\194-\244]") do   -- where characters begin
        count = count + 1
        if count == length then last = at end
        if count > length then return text:sub(1, last - 1) .. "…" end
    end
    return text
end

-- Whether a film is within the limits of auto=yes; nil where its rate is not known.
local function within_limits(rate, height, limits)
    if height and height > limits.max_height then return false end
    if not rate or rate <= 0 then return nil end
    return rate <= limits.max_fps
end

-- What is remembered -------------------------------------------------------------------------------------------------
-- One line a film, oldest first: hash of its path, then yes or no. Only what the key or the menu did in that very film.

local REMEMBERED_FILMS = 500

-- 62 bits as text: two polynomials modulo primes, exact in a double. Film names are nobody's business.
local function hash(text)
    local a, b = 7, 11
    for i = 1, #text do
        local byte = text:byte(i)
        a = (a * 257 + byte) % 2147483647
        b = (b * 263 + byte) % 2147483629
    end
    return string.format("%08x%08x", a, b)
end

local function parse_memory(text)
    local films = {}
    for key, state in text:gmatch("(%x+) (%a+)") do
        if #key == 16 and (state == "yes" or state == "no") then films[#films + 1] = {key, state} end
    end
    return films
end

-- The text with one film's state changed or added, without the oldest films above `limit`.
local function changed_memory(text, key, on, limit)
    local lines = {}
    for _, entry in ipairs(parse_memory(text)) do
        if entry[1] ~= key then lines[#lines + 1] = entry[1] .. " " .. entry[2] end
    end
    lines[#lines + 1] = key .. " " .. (on and "yes" or "no")
    return table.concat(lines, "\n", math.max(1, #lines - limit + 1)) .. "\n"
end

-- In mpv's folder for state, or in that of its configuration before mpv 0.36; nil where mpv has none (--no-config).
local function memory_path()
    for _, folder in ipairs({"~~state/", "~~home/"}) do
        local path = mp.command_native({"expand-path", folder})
        if path and path ~= "" and path ~= folder then return utils.join_path(path, "drba-films.txt"), path end
    end
end

local function read_memory()
    local path = memory_path()
    local file = path and io.open(path, "r")
    if not file then return "" end
    local text = file:read("*a") or ""
    file:close()
    return text
end

-- Whether DRBA was on in that film when the viewer last used the key in it; nil if never.
local function recall(path)
    if not options.remember then return nil end
    local key = hash(path)
    for _, entry in ipairs(parse_memory(read_memory())) do
        if entry[1] == key then return entry[2] == "yes" end
    end
    return nil
end

local function run(...)
    return mp.command_native({
        name = "subprocess", args = {...}, playback_only = false, capture_stdout = true, capture_stderr = true,
    })
end

local function remember(path, on)
    if not options.remember then return end
    local target, folder = memory_path()
    if not target then return end
    local text = changed_memory(read_memory(), hash(path), on, REMEMBERED_FILMS)
    local file = io.open(target .. ".new", "w")
    if not file then   -- mpv makes the folder when it first needs it
        run("mkdir", "-p", folder)
        file = io.open(target .. ".new", "w")
    end
    if not file then return msg.warn("cannot write " .. target) end
    local written = file:write(text)
    if not (file:close() and written) then   -- the disk is full: what was known stays
        os.remove(target .. ".new")
        return msg.warn("cannot write " .. target)
    end
    if not os.rename(target .. ".new", target) then   -- Windows replaces nothing
        os.remove(target)
        os.rename(target .. ".new", target)
    end
end

-- Messages on screen -------------------------------------------------------------------------------------------------

local quiet_until = 0   -- time until which mpv's own message about a new file stands
local waiting = nil     -- timer of a message that waits for it
local message_lines = 0 -- of the last message
local message_until = 0 -- time until which it stands

local function show(text, seconds)
    message_lines = select(2, text:gsub("\n", "\n")) + 1 + math.floor(#text / 60)
    message_until = mp.get_time() + seconds
    mp.osd_message(text, seconds)
    update_statistics()
end

-- The log has it at once, the screen when mpv's own message has gone.
local function say(text, seconds)
    seconds = seconds or 3
    msg.info((text:gsub("\n", "; ")))
    if waiting then waiting:kill() end
    waiting = nil
    local wait_s = quiet_until - mp.get_time()
    if wait_s <= 0 then return show(text, seconds) end
    waiting = mp.add_timeout(wait_s, function()
        waiting = nil
        show(text, seconds)
    end)
end

local function begin_quiet()
    quiet_until = 0
    if mp.get_property("osd-playing-msg", "") == "" then return end
    local ms = mp.get_property_number("osd-playing-msg-duration") or mp.get_property_number("osd-duration") or 0
    quiet_until = mp.get_time() + ms / 1000
end

local function fail(reason)
    wanted = false
    if film then film.opening, film.failure = false, reason end
    say("DRBA cannot start: " .. reason .. "\n" .. (bridge_log and "log: " .. bridge_log or "more: drba logs"), 10)
    update_menu()
end

-- The bridge process -------------------------------------------------------------------------------------------------

local function file_exists(path)
    local info = utils.file_info(path)
    return info ~= nil and info.is_file
end

local function bridge_program()
    if options.command ~= "" then return mp.command_native({"expand-path", options.command}) end
    local source = debug.getinfo(1, "S").source:match("^@(.*)$")
    if source then
        -- Where the script really is: people link it into their configuration.
        local real = run("readlink", "-f", source)
        if real and real.status == 0 then source = real.stdout:gsub("%s+$", "") end
        for _, place in ipairs({"../.venv/bin/drba", "../.venv/Scripts/drba.exe"}) do
            local beside = utils.join_path(utils.split_path(source), place)
            if file_exists(beside) then return beside end
        end
    end
    return "drba"
end

local function ask_bridge(verb, data)
    local text = utils.format_json(data)  -- it returns an error message too
    mp.commandv("script-message", "drba-bridge", verb, text)
end

-- mpv's IPC socket; opened in a new private folder where the viewer has configured none. Nil if that fails.
local function ipc_path()
    local path = mp.get_property("input-ipc-server", "")
    if path ~= "" then return mp.command_native({"expand-path", path}) end
    local base = os.getenv("XDG_RUNTIME_DIR") or os.getenv("TMPDIR") or "/tmp"
    local made = run("mktemp", "-d", base .. "/drba-mpv-XXXXXXXXXX")   -- mode 700, under a name that nobody can guess
    if not made or made.status ~= 0 then return nil end
    owned_folder = made.stdout:gsub("%s+$", "")
    path = owned_folder .. "/mpv.sock"
    mp.set_property("input-ipc-server", path)
    return path
end

-- Take the film's added track away, and what the bridge holds for it. The film's own picture is shown afterwards.
local function drop_track()
    if film.on then switch_off() end
    if film.track then mp.commandv("video-remove", tostring(film.track)) end
    if bridge == "ready" and (film.url or film.opening) then ask_bridge("close", {id = film.id}) end
    film.id, film.url, film.track, film.opening, film.stats, film.building = nil, nil, nil, false, nil, ""
    film.resting, silence = false, nil
end

local function bridge_ended(_, result, err)
    if quitting then return end
    bridge, bridge_call = "none", nil
    if film then drop_track() end
    local last = result and result.stderr and result.stderr:match("([^\n]+)\n*$")
    local why = last or err or "the bridge ended unexpectedly"
    if result and result.error_string == "init" then
        why = "the program `" .. bridge_program() .. "` was not found; set command in script-opts/drba.conf, or run drba setup"
    end
    msg.warn("bridge ended: " .. why)
    local now = mp.get_time()
    bridge_deaths[#bridge_deaths + 1] = now
    while bridge_deaths[1] and bridge_deaths[1] < now - RESTART_WINDOW_S do table.remove(bridge_deaths, 1) end
    -- By a signal, or by this script since it hung: worth another try.
    local crashed = result and (result.killed_by_us or (result.status and result.status < 0))
    if wanted and crashed and #bridge_deaths <= MAX_BRIDGE_RESTARTS then
        open_film()
    elseif wanted then
        fail(why)
    end
    update_menu()
end

local function start_bridge()
    local path = ipc_path()
    if not path then return fail("no private folder for mpv's socket could be made") end
    local args = {bridge_program(), "bridge", "--ipc", path}
    if owned_folder then
        args[#args + 1] = "--owned-folder"
        args[#args + 1] = owned_folder
    end
    if options.server ~= "" then args[#args + 1] = "--server=" .. options.server end
    bridge = "starting"
    bridge_call = mp.command_native_async({
        name = "subprocess", args = args, playback_only = false, capture_stderr = true, capture_size = 16384,
    }, bridge_ended)
    mp.add_timeout(START_TIMEOUT_S, function()
        if bridge == "starting" then fail("the bridge does not answer") end
    end)
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

-- Messages about a film that is not played any more, or was asked for again since, are nobody's.
local function on_film(verb, handler)
    on_bridge(verb, function(data)
        if film and film.id and data.id == film.id then handler(data) end
    end)
end

-- Tracks -------------------------------------------------------------------------------------------------------------

-- The selected video track, or nil; and how many of the film's own video tracks come before it.
local function selected_video()
    local before = 0
    for _, track in ipairs(mp.get_property_native("track-list", {})) do
        if track.type == "video" and track.selected then return track, before end
        if track.type == "video" and not track.external then before = before + 1 end
    end
    return nil
end

local function track_by_url(url)
    for _, track in ipairs(mp.get_property_native("track-list", {})) do
        if track.type == "video" and track["external-filename"] == url then return track end
    end
    return nil
end

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
-- works the difference to the sound off over seconds. Both at once: between them mpv may find a short film without sound, which
-- it has read to its end, to be over.
local function select_track(id)
    mp.command(string.format("no-osd set vid %d; no-osd seek 0 relative+exact", id))
end

switch_on = function()
    film.on, film.announced = true, false
    keep_out_of_saved_state()
    dress_track()
    if film.turned ~= 0 then mp.set_property("file-local-options/video-rotate", tostring(film.turned)) end
    select_track(film.track)
    watch_bridge()
    update_menu()
end

switch_off = function()
    film.on = false
    undress_track()
    if mp.get_property_number("vid") == film.track then select_track(film.original) end
    update_menu()
end

-- A bridge that hangs: mpv would wait for its frames, and the film with it. Beats are counted, not seconds: where mpv itself
-- was held up, one has passed.
local function beat_missed()
    if not silence or not film or not (film.on or film.resting) then
        silence = nil
        return
    end
    silence = silence + 1
    if silence == SILENT_BEATS and film.on then
        msg.warn("the bridge does not answer: the film's own picture until it does")
        switch_off()
        film.resting = true
    elseif silence == LOST_BEATS and bridge_call then
        mp.abort_async_command(bridge_call)
    end
    mp.add_timeout(BEAT_S, beat_missed)
end

watch_bridge = function()
    if silence then return end
    silence = 0
    mp.add_timeout(BEAT_S, beat_missed)
end

on_bridge("beat", function()
    if silence then silence = 0 end
    if not film or not film.resting then return end
    film.resting = false
    if wanted and film.track then switch_on() end
end)

-- "on" is said when the first in-between frame is on the screen, not before.
local function announce_when_shown()
    if not film or not film.on or film.announced or not film.first_between then return end
    local position = mp.get_property_number("time-pos")
    if position and position >= film.first_between and not mp.get_property_bool("seeking") then
        film.announced, bridge_deaths = true, {}
        say(string.format("DRBA on: %s -> %s, %s", rate_text(film.source_fps), rate_text(film.output_fps), film.level))
    end
end

-- Behind a place where the film goes on in another size or at other times (see "lost"), or well before it if the viewer seeks,
-- the film is opened anew.
local RESUMED_BEFORE_S = 1.0
local function resume_behind_it()
    if not film or not film.resume_s or not wanted or film.on or film.opening then return end
    local position = mp.get_property_number("time-pos")
    if not position or mp.get_property_bool("seeking") then return end
    if position > film.resume_s or position < film.resume_s - RESUMED_BEFORE_S then
        film.resume_s = nil
        open_film(false, position)
    end
end

mp.observe_property("time-pos", "number", function()
    if film and film.on and not film.announced then announce_when_shown() end
    resume_behind_it()
end)

-- The viewer may choose tracks by other means too. Another video track of the film is followed; its first one, or none, is off.
mp.observe_property("vid", "number", function()
    if not film or not film.original then return end
    local id = mp.get_property_number("vid")   -- now: since this was reported the script may have switched itself
    if film.track and id == film.track then
        if not film.on then film.on, wanted = true, true end
    elseif id and id ~= film.original then
        local follow = film.on or film.opening
        if film.on then
            film.on = false
            undress_track()
        end
        drop_track()
        film.original = nil
        if follow then open_film() end
    elseif film.on then
        film.on, wanted = false, false
        undress_track()
    end
    update_menu()
end)

-- The film -----------------------------------------------------------------------------------------------------------

local function full_path(path)
    return is_url(path) and path or utils.join_path(mp.get_property("working-directory", ""), path)
end

local function new_film()
    return {
        path = full_path(mp.get_property("path", "")),
        id = nil,             -- of the request to the bridge
        opening = false,      -- asked for, not answered
        url = nil,            -- of the published track
        track = nil,          -- mpv's id of it
        original = nil,       -- mpv's id of the film's own video that it was made of
        on = false,           -- whether the added track is selected
        announced = false,    -- whether "on" was said
        first_between = nil,  -- time of the first in-between frame that mpv has read
        rotate = nil,         -- the viewer's video-rotate, while ours is set
        turned = 0,           -- rotation of the film's own picture, in degrees
        saved_state = nil,    -- the viewer's watch-later-options, while ours are set
        resting = false,      -- whether the added track is off until the bridge answers again
        level = nil,          -- name of the level of quality that is played
        asked_mode = nil,     -- mode that the bridge was told last
        answer_mode = false,  -- whether the viewer waits to be told what the mode means
        note = "",            -- which engine draws, and why; as last logged
        building = "",        -- the engine that is being built to take over
        progress = 0,         -- of that build, 0 to 1
        tenths = -1,          -- of that build, as last said
        stats = nil,          -- the bridge's last drba-stats
        followed = {},        -- times at which the added track could not show what came, and it was opened anew
        resume_s = nil,       -- the film's time from which on it is opened anew
        failure = nil,        -- why it cannot be played with DRBA
        rate_unknown = false, -- whether auto=yes waits to know its rate
    }
end

-- What FFmpeg has to say to a web server to be given what mpv is given: mpv's own options, which its youtube-dl hook sets for
-- a file.
local function web_options()
    return {
        headers = mp.get_property_native("http-header-fields") or {},
        user_agent = mp.get_property("user-agent"),
        referrer = mp.get_property("referrer"),
        proxy = mp.get_property("http-proxy"),
        lavf = mp.get_property_native("stream-lavf-o"),
    }
end

-- `asked`: the viewer has just asked for it, and is told why there is nothing to open. Nobody else is: mpv takes a film away
-- before it says so, and with no picture left its end, and then the next film, are on the way.
-- `at_s`: where it is now what it is to be opened as, if not as it begins.
open_film = function(asked, at_s)
    if not film then return end
    if film.resting then return end   -- it comes on by itself
    if film.track then return switch_on() end
    if film.opening then return end
    local track, number = selected_video()
    if not track or track.image or track.albumart then
        if not asked then return end
        return fail(track and "a still picture has nothing between its frames" or "no video is playing")
    end
    if mp.get_property("current-demuxer") == "timeline" and not track.external and not is_url(film.path) then
        return fail("the film is put together from parts of files (ordered chapters), which DRBA cannot follow")
    end
    if bridge == "none" then start_bridge() end
    if bridge ~= "ready" then return end
    request_count = request_count + 1
    film.id, film.opening, film.failure, film.original = tostring(request_count), true, nil, track.id
    film.asked_mode = mode
    ask_bridge("open", {
        id = film.id,
        path = track["external-filename"] or full_path(mp.get_property("stream-open-filename") or film.path),
        stream = track["ff-index"],
        video = number,
        web = web_options(),
        offset_s = mp.get_property_bool("rebase-start-time") and mp.get_property_number("demuxer-start-time", 0) or 0,
        deinterlaced = (mp.get_property("deinterlace") or "no") ~= "no",
        at_s = at_s,
        pixel_aspect = mp.get_property_number("video-params/par", 0),
        display_fps = mp.get_property_number("display-fps", 0),
        fps = options.fps, model = options.model, engine = options.engine, scale = options.scale,
        quality = mode,
        scdet = options.scdet, scdet_threshold = options.scdet_threshold,
    })
end

on_bridge("ready", function(data)
    bridge, bridge_log = "ready", data.log
    if wanted then open_film() end
end)

on_film("opened", function(data)
    film.opening, film.first_between = false, nil
    film.url, film.source_fps, film.output_fps, film.level = data.url, data.source_fps, data.output_fps, data.level
    if film.asked_mode ~= mode then tell_mode() end
    mp.command_native_async({"video-add", data.url, "auto", "DRBA " .. rate_text(data.output_fps) .. " fps"},
        function(success, _, err)
            if not film or data.id ~= film.id then return end
            local track = success and track_by_url(data.url)
            if not track then return fail("mpv did not accept the track: " .. tostring(err)) end
            film.track = track.id
            if wanted then switch_on() end
        end)
end)

on_film("interpolating", function(data)
    film.first_between, film.level = data.time_s, data.level
    announce_when_shown()
end)

-- A level that the controller has chosen is on the screen while DRBA is on; one that the viewer has chosen always is.
on_film("drba-level", function(data)
    local changed = film.level ~= data.level
    film.level = data.level
    if film.answer_mode and data.mode == mode then
        film.answer_mode = false
        say(string.format("DRBA quality: %s\nnow %s", mode, data.level))
    elseif changed and film.on and film.announced then
        say(data.reduced and string.format("DRBA reduced to %s: %s", data.level, data.why) or "DRBA back to " .. data.level)
    end
    update_menu()
end)

-- Which engine draws goes to the log. A build is on the screen when it starts, at every tenth of the way, and when it has ended.
on_film("drba-engine", function(data)
    local was_building = film.building ~= ""
    film.building, film.progress = data.building, data.progress
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

on_film("drba-stats", function(data) film.stats = data end)

on_bridge("notice", function(data)
    say("DRBA: " .. tostring(data.text), 8)
end)

-- Soon the film goes on in another size or at other times, which the added track cannot show: its own track takes over.
local MAX_FOLLOWED, FOLLOWED_WINDOW_S = 3, 60   -- more changes are not worth the interruptions
on_film("lost", function(data)
    local was_on, followed, now = film.on, film.followed, mp.get_time()
    drop_track()
    if not was_on then return end
    while followed[1] and followed[1] < now - FOLLOWED_WINDOW_S do table.remove(followed, 1) end
    if data.again and #followed < MAX_FOLLOWED then
        followed[#followed + 1] = now
        film.resume_s = data.time_s
        msg.info("DRBA: " .. data.reason)
    else
        wanted, film.failure = false, data.reason
        say("DRBA off: " .. data.reason .. ", which it cannot follow", 6)
    end
    update_menu()
end)

on_bridge("failed", function(data)
    if data.id == "" or (film and film.id and data.id == film.id) then fail(data.reason or "unknown reason") end
end)

local function turn_on()
    quiet_until = 0
    if wanted and film and (film.on or film.opening or bridge == "starting") then return end
    wanted, choice = true, true
    if not film then
        asked_early = true
        return say("DRBA: on from the next film")
    end
    if not film.track then say("DRBA: starting", 10) end
    open_film(true)
    update_menu()
end

local function turn_off()
    quiet_until = 0
    wanted, choice = false, false
    if film then film.rate_unknown = false end
    if film and film.on then switch_off() end
    say("DRBA off")
    update_menu()
end

local function toggle()
    if wanted then turn_off() else turn_on() end
    if film then remember(film.path, wanted) end
end

local function start_by_itself()
    wanted = true
    say("DRBA: starting", 10)
    open_film()
    update_menu()
end

-- Whether a film begins with DRBA on: as the viewer has left this very film, else as they have left the one before it, else
-- by the options. auto=always is the program's own player: what it was started for it does.
local function file_loaded()
    film = film or new_film()
    local asked = asked_early
    wanted, asked_early = false, false
    local track = selected_video()
    if not track or track.image or track.albumart then
        if asked then open_film(true) end   -- which says why not
        return update_menu()
    end
    begin_quiet()
    local begin = choice
    if options.auto ~= "always" then
        local known = recall(film.path)
        if known ~= nil then begin = known end
    end
    if begin == nil and options.auto == "yes" then
        begin = within_limits(track["demux-fps"], track["demux-h"], options)
        film.rate_unknown = begin == nil
    elseif begin == nil then
        begin = options.auto == "always"
    end
    if begin then start_by_itself() end
    update_menu()
end
mp.register_event("file-loaded", file_loaded)

-- Some containers do not say their rate: mpv measures it.
mp.observe_property("estimated-vf-fps", "number", function(_, rate)
    if not rate or not film or not film.rate_unknown then return end
    film.rate_unknown = false
    if within_limits(rate, nil, options) then start_by_itself() end
end)

mp.register_event("end-file", function()
    if waiting then waiting:kill() end
    waiting = nil
    if film and (film.url or film.opening) then ask_bridge("close", {id = film.id}) end
    if film then undress_track() end
    film = nil
    update_menu()
end)

mp.register_event("shutdown", function()
    quitting = true
    if owned_folder then
        os.remove(owned_folder .. "/mpv.sock")
        os.remove(owned_folder)
    end
end)

-- Levels of quality by hand ------------------------------------------------------------------------------------------

-- The film that is open is played so from now on; false where none is.
tell_mode = function()
    if not film or not film.url then return false end
    film.asked_mode = mode
    ask_bridge("level", {mode = mode})
    return true
end

local function set_mode(name)
    quiet_until = 0
    mode = name
    if tell_mode() then
        film.answer_mode = true   -- the bridge's answer says what that means now
    else
        say(string.format("DRBA quality: %s\n%s", mode, MODE_MEANS[mode]))
    end
    update_menu()
end

local function next_level()
    local place = 0
    for i, name in ipairs(MODES) do
        if name == mode then place = i end
    end
    set_mode(MODES[place % #MODES + 1])
end

local function level_by_name(name)
    if not is_mode(name) then
        return msg.error("message level: expected one of " .. table.concat(MODES, ", ") .. ", got " .. tostring(name))
    end
    set_mode(name)
end

-- Menu ---------------------------------------------------------------------------------------------------------------
-- mpv 0.41 has a context menu that scripts may add to (property menu-data). Its own script writes the whole menu anew now and
-- then, so our entry is put back whenever it is missing. Older versions have no such property, or nothing in it.

local MENU_TITLE = "DRBA"

local function menu_entry(on, current)
    local function item(title, cmd, checked)
        return {title = title, cmd = cmd, state = checked and {"checked"} or nil}
    end
    local entries = {item("On", "script-binding drba/toggle", on), {type = "separator"}}
    for _, name in ipairs(MODES) do
        entries[#entries + 1] = item("Quality: " .. name, "script-message-to drba level " .. name, name == current)
    end
    entries[#entries + 1] = {type = "separator"}
    entries[#entries + 1] = item("Statistics", "script-binding drba/statistics")
    return {type = "submenu", title = MENU_TITLE, submenu = entries}
end

-- The menu with the entry in it, at its place or at the end; nil where there is no menu to be in.
local function menu_with(items, entry)
    if type(items) ~= "table" or #items == 0 then return nil end
    for i, item in ipairs(items) do
        if item.title == entry.title then
            items[i] = entry
            return items
        end
    end
    items[#items + 1] = {type = "separator"}
    items[#items + 1] = entry
    return items
end

local function has_entry(items)
    for _, item in ipairs(items) do
        if item.title == MENU_TITLE then return true end
    end
    return false
end

local menu_shown = ""
update_menu = function()
    local state = tostring(wanted) .. mode
    if state == menu_shown then return end
    local items = menu_with(mp.get_property_native("menu-data"), menu_entry(wanted, mode))
    if not items then return end
    menu_shown = state
    mp.set_property_native("menu-data", items)
end
mp.observe_property("menu-data", "native", function(_, items)
    if type(items) == "table" and #items > 0 and not has_entry(items) then
        menu_shown = ""
        update_menu()
    end
end)

-- Statistics ---------------------------------------------------------------------------------------------------------
-- A page like that of mpv's stats.lua, drawn anew twice a second while it is shown. Units are those of a 720 rows high window.

local REFRESH_S = 0.5
local PAGE_ROWS, PAGE_MIN_WIDTH = 720, 620
local LEFT, TOP, WIDTH = 24, 24, 584
local MESSAGE_LINE = 58                -- of a message on screen, under which the page moves
local PAD, LINE, FONT = 16, 25, 18
local LABELS = 120                     -- width of the column of labels
local GRAPH_HEIGHT, BARS = 72, 60
local WHITE, GREY, GREEN, AMBER = "FFFFFF", "B4B4B4", "8CDC96", "3CA8FF"   -- BBGGRR

-- Value, or an en dash where it is not known.
local function known(value, pattern, ...)
    return value and string.format(pattern, value, ...) or "–"
end

local function state_text(s)
    if s.failure then return "failed: " .. s.failure, AMBER end
    if not s.wanted then return "off", GREY end
    if s.bridge == "starting" or s.opening then return "starting", WHITE end
    if not s.on then return "waiting", GREY end
    if not s.announced then return "starting", WHITE end
    if s.reduced then return "on, reduced", AMBER end
    return "on", GREEN
end

-- {label, value, colour} a line, from a snapshot.
local function page_rows(s)
    local state, colour = state_text(s)
    local rows = {{"DRBA", state, colour}}
    local function row(label, value, value_colour)
        rows[#rows + 1] = {label, value, value_colour or WHITE}
    end
    local display = s.display_fps and s.display_fps > 0 and ", display " .. rate_text(s.display_fps) .. " Hz" or ""
    row("Frame rate", s.source_fps and rate_text(s.source_fps) .. " → " .. rate_text(s.output_fps) .. " fps" .. display or "–")
    row("Model", s.model and s.model .. " on " .. s.engine or "–")
    if s.building ~= "" then row("Building", string.format("%s engine, %d %%", s.building, math.floor(s.progress * 100))) end
    local tight = s.budget_ms and s.ms and s.ms > s.budget_ms
    row("In-between", known(s.ms, "%.1f ms") .. (s.budget_ms and string.format(" of %.1f ms", s.budget_ms) or ""),
        tight and AMBER or WHITE)
    row("Level", (s.level or "–") .. (s.mode == "auto" and ", chosen automatically" or ", quality " .. s.mode),
        s.reduced and AMBER or WHITE)
    if s.why and s.why ~= "" and s.mode == "auto" then row("", s.why, GREY) end
    row("Ahead", known(s.lead_s, "%.2f s") .. (s.queue and string.format(", %d on the way", s.queue) or ""))
    row("Frames", string.format("%d interpolated, %d held, %d at cuts", s.interpolated, s.held, s.cut))
    row("", string.format("%d late, %d reduced", s.late, s.reduced_frames), s.late > 0 and AMBER or GREY)
    row("A/V", known(s.avsync, "%+.1f ms"))
    row("Dropped", string.format("%d by the output, %d by the decoder", s.dropped_output, s.dropped_decoder),
        s.dropped_output + s.dropped_decoder > 0 and AMBER or WHITE)
    local machine = s.server and s.server ~= "" and s.server .. ", " or ""   -- another one renders
    row("Server", s.connected == nil and "–" or machine .. (s.connected and "connected" or "not there")
        .. string.format(", %d restart%s", s.restarts, s.restarts == 1 and "" or "s"), s.connected == false and AMBER or WHITE)
    return rows
end

local function text_event(x, y, colour, text, size)
    return string.format("{\\an7\\pos(%g,%g)\\q2\\fs%d\\fnmonospace\\bord1.2\\shad0\\1c&H%s&\\3c&H000000&}%s",
        x, y, size or FONT, colour, ass_escape(text))
end

-- A filled drawing; alpha is 00 (solid) to FF.
local function drawing_event(x, y, colour, alpha, path)
    return string.format("{\\an7\\pos(%g,%g)\\bord0\\shad0\\1c&H%s&\\1a&H%s&\\p1}%s{\\p0}", x, y, colour, alpha, path)
end

local function rectangle(left, top, right, bottom)
    return string.format("m %d %d l %d %d l %d %d l %d %d", left, top, right, top, right, bottom, left, bottom)
end

-- Milliseconds at the upper edge of the graph: room above the budget, more where bars need it, but no more than four budgets.
local function graph_top(values, budget_ms)
    local highest = 0
    for _, value in ipairs(values) do highest = math.max(highest, value) end
    if not budget_ms then return math.max(1, highest * 1.1) end
    return math.max(budget_ms * 1.25, math.min(highest * 1.1, budget_ms * 4))
end

-- The newest times as bars, oldest at the left; those above the budget, which is a line, in another colour. A list of ASS events.
local function graph_events(values, budget_ms, x, y, width, height)
    local events = {drawing_event(x, y, "262626", "40", rectangle(0, 0, width, height))}
    local top, step = graph_top(values, budget_ms), width / BARS
    local within, above = {}, {}
    for i, value in ipairs(values) do
        local left = math.floor((BARS - #values + i - 1) * step + 0.5)
        local upper = math.floor(height - math.min(1, value / top) * height)
        local bar = rectangle(left, upper, left + math.max(1, math.floor(step) - 1), height)
        if budget_ms and value > budget_ms then above[#above + 1] = bar else within[#within + 1] = bar end
    end
    if #within > 0 then events[#events + 1] = drawing_event(x, y, GREEN, "00", table.concat(within, " ")) end
    if #above > 0 then events[#events + 1] = drawing_event(x, y, AMBER, "00", table.concat(above, " ")) end
    if budget_ms then
        local line = math.floor(height - budget_ms / top * height)
        events[#events + 1] = drawing_event(x, y, WHITE, "00", rectangle(0, line - 1, width, line + 1))
    end
    return events
end

-- The whole page as ASS, `messages` lines below the top.
local function page_text(s, messages)
    local rows = page_rows(s)
    local page_y = TOP + messages * MESSAGE_LINE
    local graph_y = page_y + PAD + #rows * LINE + 8
    local height = graph_y + GRAPH_HEIGHT + 8 + LINE + PAD / 2 - page_y
    local events = {drawing_event(LEFT, page_y, "000000", "60", rectangle(0, 0, WIDTH, height))}
    for i, row in ipairs(rows) do
        local y = page_y + PAD + (i - 1) * LINE
        events[#events + 1] = text_event(LEFT + PAD, y, i == 1 and WHITE or GREY, row[1], i == 1 and FONT + 2 or FONT)
        events[#events + 1] = text_event(LEFT + PAD + LABELS, y, row[3], shortened(row[2], 40))
    end
    for _, event in ipairs(graph_events(s.render_ms, s.budget_ms, LEFT + PAD, graph_y, WIDTH - 2 * PAD, GRAPH_HEIGHT)) do
        events[#events + 1] = event
    end
    local caption = #s.render_ms == 0 and "no in-between was rendered yet"
        or string.format("newest %d in-betweens, top %.0f ms", #s.render_ms, graph_top(s.render_ms, s.budget_ms))
            .. (s.budget_ms and string.format(", line %.1f ms", s.budget_ms) or "")
    events[#events + 1] = text_event(LEFT + PAD, graph_y + GRAPH_HEIGHT + 6, GREY, caption, 14)
    return table.concat(events, "\n")
end

-- All that the page shows, as it is now.
local function snapshot()
    local f, stats = film or {}, film and film.stats or {}
    local avsync = mp.get_property_number("avsync")
    local display_fps = mp.get_property_number("display-fps")
    return {
        wanted = wanted, bridge = bridge, opening = f.opening, on = f.on, announced = f.announced, failure = f.failure,
        source_fps = f.url and f.source_fps, output_fps = f.output_fps, display_fps = display_fps,
        model = stats.model, engine = stats.engine, building = f.building or "", progress = f.progress or 0,
        ms = stats.render_ms_median, budget_ms = stats.budget_ms, render_ms = stats.render_ms or {},
        level = f.url and f.level, mode = mode, why = stats.why, reduced = stats.reduced,
        lead_s = stats.lead_s, queue = stats.queue,
        interpolated = stats.interpolated_frames or 0, held = stats.held_frames or 0, cut = stats.cut_frames or 0,
        late = stats.late_frames or 0, reduced_frames = stats.reduced_frames or 0,
        avsync = avsync and avsync * 1000,
        dropped_output = mp.get_property_number("frame-drop-count") or 0,
        dropped_decoder = mp.get_property_number("decoder-frame-drop-count") or 0,
        connected = stats.server_connected, server = stats.server, restarts = stats.server_restarts or 0,
    }
end

-- Rows of the page's canvas for a window of that aspect: a narrow window shows the page smaller, not cut off.
local function canvas_rows(aspect)
    return math.max(PAGE_ROWS, PAGE_MIN_WIDTH / aspect)
end

local overlay = nil
local function show_page(text)
    local width, height = mp.get_osd_size()
    local aspect = width and height and width > 0 and height > 0 and width / height or 16 / 9
    local rows = canvas_rows(aspect)
    if not mp.create_osd_overlay then return mp.set_osd_ass(math.floor(rows * aspect), math.floor(rows), text) end
    overlay = overlay or mp.create_osd_overlay("ass-events")
    overlay.res_x, overlay.res_y, overlay.data = rows * aspect, rows, text
    if text == "" then overlay:remove() else overlay:update() end
end

local page_shown = false
update_statistics = function()
    if not page_shown then return end
    show_page(page_text(snapshot(), mp.get_time() < message_until and math.min(3, message_lines) or 0))
end
local page_timer = mp.add_periodic_timer(REFRESH_S, update_statistics)
page_timer:kill()

local function toggle_statistics()
    page_shown = not page_shown
    if page_shown then
        update_statistics()
        page_timer:resume()
    else
        page_timer:kill()
        show_page("")
    end
end

-- Keys and messages --------------------------------------------------------------------------------------------------

local function cancel_build()
    if film and film.building ~= "" then
        ask_bridge("cancel-build", {id = film.id})
    else
        say("DRBA: no engine is being built")
    end
end

mp.add_key_binding("D", "toggle", toggle)
mp.add_key_binding("Ctrl+d", "next-level", next_level)
mp.add_key_binding("Alt+d", "statistics", toggle_statistics)
mp.add_key_binding(nil, "cancel-build", cancel_build)
mp.register_script_message("toggle", toggle)
mp.register_script_message("on", turn_on)
mp.register_script_message("off", turn_off)
mp.register_script_message("level", level_by_name)
mp.register_script_message("statistics", toggle_statistics)
mp.register_script_message("cancel-build", cancel_build)

-- A script may be loaded while a file is playing: drba-player loads this one, and mpv's load-script does at any time.
if selected_video() and mp.get_property_native("video-params") then file_loaded() end

-- For the tests; mpv does not look at it.
return {
    rate_text = rate_text, is_url = is_url, ass_escape = ass_escape, shortened = shortened, within_limits = within_limits,
    hash = hash, parse_memory = parse_memory, changed_memory = changed_memory, full_path = full_path, memory_path = memory_path,
    bridge_program = bridge_program, menu_with = menu_with, menu_entry = menu_entry, page_rows = page_rows,
    page_text = page_text, graph_top = graph_top, graph_events = graph_events, rectangle = rectangle, canvas_rows = canvas_rows,
    snapshot = snapshot,
}
