"""The HTTP gateway: appends from browsers and programs, many requests to one sync.

The way of an append through the rooms, in order; ``docs/gateway.md`` tells it in words:

    protocol      bytes to requests, slow and oversized ones cut off
    app           who may speak at all (host, origin); the access log and the counters
    auth          a token to the uids and rights it stands for
    posts         a body to drafts: uid, key, the event's canonical JSON
    admission     how much may wait: events, bytes, events per second of a user
    lanes         one queue per user; what waits there is committed together, by a thread
    keys          which idempotency keys the log holds, asked under the log's lock
    answers       a receipt or an error to a status and a body
"""
