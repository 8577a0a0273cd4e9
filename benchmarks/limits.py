"""What is left between us and the limit, in words; the machine's own limits stand in the table of the machine."""

LIMITS = """\
The slowest paths, by profile, and what was done about them:

- The first checkpoint of a large user. Contents were fetched 64 at a time as soon as the layers together had four \
times as many, to keep the pages of all of them out of memory; now what counts are the batches that are touched, which \
makes the row hashes of 200,000 records of 1.7 kB take 4.5 s instead of 6.1 s. And the next stretch of the log is read \
while one is folded: 9.4 s instead of 10.7 s for 200,000 records. What is left is hashing: every content goes through \
SHA-256 three times (its name, its layer's name, the comparison behind the write) and twice through MD5 (its record's \
hash, computed again from what was read back). That is the price of a checkpoint that has read what it wrote.
- Small users. The row hashes of a few records took a query of 14 ms and now take 1 ms; a writer on a log of 25 days \
opens in 5 ms instead of 45 ms; a small segment is read without a second thread.
- Loading verified. A load is a verification and a parse: DuckDB alone parses this log as fast as our parse does, \
within it, and verification comes on top. Both keep both cores busy, so their seconds add up. Of verification, MD5 is \
a third; finding lines, endings and the chain in numpy, each step a pass over memory, is most of the rest. Doing all \
in one pass over the bytes would take compiled code of our own, which this package does not have.

And elsewhere:

- One durable append: the disk takes what the bare loop takes; some 120 µs of processor on top are Python: encoding, \
the sum, two locks, the looks at the file that find other writers and a full disk. From many threads one sync serves \
all of them, and that part is what is left.
- One connection over HTTP: the same, and a round trip through the event loop to the thread that syncs. From 16 \
connections on the sync is shared.
- A push: the check of every line (MD5) and the server run on the same two cores. On two machines they would not.
- Loading by two workers: the memory. On this machine two processes that only copy in memory are no faster than one \
(0.90x together), two that parse JSON are 1.77x, two that only hash 1.92x; a load is of all three.
- Replay of a sealed log beyond a million events grows a little faster than the log: the table of ids outgrows the \
caches, and each event looks up its own."""
