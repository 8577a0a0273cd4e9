"""Many users at once: per-user jobs in many processes, or on a Dask cluster.

    place     where the users are: a directory that every worker sees, or a bucket
    task      which users a worker takes at once, and how large ones are cut by segment
    job       what is done for a user: verify, load, state, growth ..., checkpoint
    pieces    a log read in pieces, and what they come to together
    work      what a worker does with a task
    crew      who does it: processes of our own, any executor, a Dask cluster
    folder    where the results stand, partition by partition
    run       what came of it: one row per user, and the tables of the job
    fleet     the front door

docs/scale.md has a plan by numbers for ten million users.
"""
