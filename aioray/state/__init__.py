"""What happened and what is going on: recorded by an engine, and read by whoever asks.

Room: state. The engine hands over what happens, and a thread of its own (`write.writer`) writes it
to a database in the session's folder (`write.history`, tables in `schema`) and answers questions
about what is going on over a socket there (`write.server`). Readers (`read.sessions`, `read.view`)
find the sessions, living and ended, and see both as one. What the columns of Ray's state API are is
in `read.columns`, which rows are wanted in `read.filters`. It imports neither core nor engine nor
worker.
"""
