"""Records a session: the thread that writes its history, and answers who asks what is going on.

Room: state.
"""
