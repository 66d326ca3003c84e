-- One cell by wrk: every request takes the next Cookie header of a file; prints the result as one line of JSON.
-- wrk … -s wrk.lua URL -- METHOD PATH USER_AGENT [FILE OF COOKIES]
local requests, turn = {}, 0

function init (args)
  local method, path, agent, file = args[1], args[2], args[3], args[4]
  local headers = { ["User-Agent"] = agent }
  if file then
    for cookie in io.lines(file) do
      requests[#requests + 1] = wrk.format(method, path, { ["User-Agent"] = agent, ["Cookie"] = cookie })
    end
  end
  if #requests == 0 then requests[1] = wrk.format(method, path, headers) end
end

function request ()
  turn = turn % #requests + 1
  return requests[turn]
end

function done (summary, latency)
  local e = summary.errors
  io.write(string.format('{"answered":%d,"milliseconds":%.3f,"failed":%d,"p50":%.4f,"p99":%.4f}\n',
    summary.requests, summary.duration / 1000, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
