-- wrk asks in turn for each of so many sessions: `wrk -s control.lua URL -- KIND SESSIONS`.

dofile((debug.getinfo(1, "S").source:gsub("^@(.*/).*$", "%1summary.lua")))

local requests, turn = {}, 0

local bodies = {
    key = '{"key":{"name":"key-%d"}}',
    whole = '{"key":{"name":"key-%d"},"user":"ada","auth":{"role":"editor"},'
        .. '"spawn_config":{"executable":{"image":"whiteboard","env":{"COLOUR":"red"}},'
        .. '"max_idle_seconds":300}}',
}

function init(args)
    wrk.headers["Content-Type"] = "application/json"
    for n = 0, tonumber(args[2]) - 1 do
        if args[1] == "status" then
            requests[n] = wrk.format("GET", "/pub/b/session-" .. n .. "/status")
        else
            requests[n] = wrk.format("POST", "/ctrl/connect", nil, bodies[args[1]]:format(n))
        end
    end
end

function request()
    turn = (turn + 1) % (#requests + 1)
    return requests[turn]
end
