"""A store in an object store: push, restore to a moment, and the proof that a restore works.

    bucket, s3     what is asked of an object store, and the ones there are
    patience       requests that are counted, and tried again with back-off
    image          what a user's directory consisted of at a push, and the keys it stands under
    local, notes   what is on this disk, durable and checked; what this machine remembers of a bucket
    line           which images follow which, and how a log here stands to them
    push           what is new here into the bucket
    windows, pull  what the bucket alone can restore, and restoring it
    prove          restore to scratch, replay, compare
    status         how the bucket stands, and how far behind it is
    retention      what no moment of the window needs goes
    remote         the front door

docs/remote.md has the layout of the keys and the story of every failure.
"""
