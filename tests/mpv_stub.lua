-- What drba.lua uses of mpv's Lua API, without mpv: properties in a table, commands noted, time that stands still.
-- `stub.load(changes)` loads the script anew; `changes.absent` names functions of mp that this mpv lacks.

local stub = {}

-- JSON as far as the script needs it: what it sends is compared as text with sorted keys, and nothing is parsed but by hand.
local function to_json(value)
    if type(value) ~= "table" then
        return type(value) == "string" and string.format("%q", value) or tostring(value)
    end
    local parts = {}
    if value[1] ~= nil then
        for _, item in ipairs(value) do parts[#parts + 1] = to_json(item) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for key, item in pairs(value) do parts[#parts + 1] = string.format("%q:", key) .. to_json(item) end
    table.sort(parts)
    return "{" .. table.concat(parts, ",") .. "}"
end

-- mpv's join_path, by the rules of the system that is played.
local function join_path(windows)
    return function(folder, path)
        local absolute = path:sub(1, 1) == "/" or (windows and (path:find("^%a:[/\\]") or path:sub(1, 1) == "\\"))
        if absolute or folder == "" then return path end
        local last = folder:sub(-1)
        if last == "/" or (windows and (last == "\\" or last == ":")) then return folder .. path end
        return folder .. (windows and "\\" or "/") .. path
    end
end

local function split_path(path)
    local folder, name = path:match("^(.*[/\\])([^/\\]*)$")
    return folder or ".", name or path
end

function stub.load(changes)
    changes = changes or {}
    local world = {
        now = 0, log = {}, shown = {}, commands = {}, async = {}, timers = {},
        keys = {}, messages = {}, events = {}, observers = {},
        properties = {["working-directory"] = "/films", path = "a.mkv", ["track-list"] = {}, vf = {}, ["osd-duration"] = 1000},
        expand = function(path) return path end,
        files = {},
        overlay = {updates = 0, removed = 0},
    }
    for name, value in pairs(changes.properties or {}) do world.properties[name] = value end
    world.expand = changes.expand or world.expand
    world.files = changes.files or world.files

    local function get(name, default)
        local value = world.properties[name]
        if value == nil then return default end
        return value
    end
    local function set(name, value)
        world.properties[name:gsub("^file%-local%-options/", "")] = value
        return true
    end
    local mp = {
        get_property = get, get_property_native = get, get_property_number = get, get_property_bool = get,
        set_property = set, set_property_native = set, set_property_number = set,
        get_time = function() return world.now end,
        get_osd_size = function() return 1280, 720, 1 end,
        osd_message = function(text) world.shown[#world.shown + 1] = text end,
        add_key_binding = function(key, name, fn) world.keys[name] = {key = key, fn = fn} end,
        register_script_message = function(name, fn) world.messages[name] = fn end,
        register_event = function(name, fn) world.events[name] = fn end,
        observe_property = function(name, _, fn) world.observers[name] = fn end,
        command = function(text)
            world.commands[#world.commands + 1] = text
            local vid = text:match("set vid (%d+)")
            if vid then set("vid", tonumber(vid)) end
        end,
        commandv = function(...)
            world.commands[#world.commands + 1] = table.concat({...}, " ")
        end,
        command_native = function(command)
            if command[1] == "expand-path" then return world.expand(command[2]) end
            world.commands[#world.commands + 1] = table.concat(command.args, " ")
            local made = command.args[1] == "mktemp" and command.args[3]:gsub("X+$", "1") .. "\n"
            return {status = made and 0 or 1, stdout = made or "", stderr = ""}
        end,
        command_native_async = function(command, fn)
            world.async[#world.async + 1] = {command = command, done = fn}
            return command
        end,
        abort_async_command = function(handle) world.aborted = handle end,
        add_timeout = function(seconds, fn)
            local timer = {at = world.now + seconds, fn = fn}
            function timer:kill() self.dead = true end
            world.timers[#world.timers + 1] = timer
            return timer
        end,
        add_periodic_timer = function(_, fn)
            local timer = {fn = fn}
            function timer:kill() self.dead = true end
            function timer:resume() self.dead = false end
            world.page_timer = timer
            return timer
        end,
        create_osd_overlay = function()
            function world.overlay:update() self.updates = self.updates + 1 end
            function world.overlay:remove() self.removed = self.removed + 1 end
            return world.overlay
        end,
        set_osd_ass = function(_, _, text) world.ass = text end,
    }
    for _, name in ipairs(changes.absent or {}) do mp[name] = nil end
    package.loaded["mp"] = mp
    local function note(text) world.log[#world.log + 1] = text end
    package.loaded["mp.msg"] = {info = note, warn = note, error = note}
    package.loaded["mp.utils"] = {
        join_path = join_path(changes.windows), split_path = split_path, format_json = to_json,
        parse_json = function(text) return world.parsed[text] end,
        file_info = function(path) return world.files[path] and {is_file = true} or nil end,
        getpid = function() return 1234 end,
    }
    package.loaded["mp.options"] = {
        read_options = function(options, _, changed)
            for name, value in pairs(changes.options or {}) do options[name] = value end
            -- A profile of the viewer sets an option while mpv runs.
            function world.set_option(name, value)
                options[name] = value
                changed({[name] = true})
            end
        end,
    }
    -- Messages of the bridge are tables here: `tell` stands for mpv's JSON.
    world.parsed = {}
    function world.tell(verb, data)
        world.parsed[verb] = data
        world.messages[verb](verb)
    end
    -- Let time pass: timers that are due fire once.
    function world.pass(seconds)
        world.now = world.now + seconds
        for _, timer in ipairs(world.timers) do
            if not timer.dead and timer.at <= world.now then
                timer.dead = true
                timer.fn()
            end
        end
    end
    function world.ran(text)
        for _, command in ipairs(world.commands) do
            if command:find(text, 1, true) then return command end
        end
        return nil
    end
    function world.last_shown() return world.shown[#world.shown] end
    local drba = assert(loadfile(stub.script))()
    return drba, world
end

return stub
