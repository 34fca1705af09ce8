-- What a turn of wrk ends with, on one line: requests, bytes, microseconds that it took, median and
-- 99th percentile of the latency in microseconds, failures.

function done(summary, latency)
    local failed = summary.errors
    io.write(("\n%d %d %d %d %d %d\n"):format(
        summary.requests,
        summary.bytes,
        summary.duration,
        latency:percentile(50),
        latency:percentile(99),
        failed.connect + failed.read + failed.write + failed.status + failed.timeout
    ))
end
