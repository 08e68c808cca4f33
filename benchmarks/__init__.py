"""aioray beside its peers: `python -m benchmarks`, run from the checkout.

Each module in `questions` asks one question, and says what it holds fixed and in which unit it
answers. Each contestant lives in a process of its own, `benchmarks.child`, fresh for each
measurement, which runs one operation when asked and is idle otherwise; `contestants` has the
operations, `runner` the asking side. So no contestant meets the heap, the threads or the event loop
of another, or of its own past.

The speed of a machine drifts while all this runs, on virtual ones by a factor of two. So
contestants take turns, A B C A B C, and a ratio is the median of the ratios within the rounds:
compare these, not numbers of two runs. Each question also has the figures that aioray is meant to
reach.

`profile` and `counts` are commands of their own: where the processor time of a task goes, and what
it costs in counts, which tests hold against limits.

`report` has the figures as text, Markdown and JSON, `pictures` draws those that were measured along
a quantity, and `guide` writes both into the chapter on performance.
"""
