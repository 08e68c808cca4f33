"""Functions and actors that print, each in a way of its own."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading

import aioray
from aioray.client.current import execution_context


def say(text):
    print(text)


def say_pid():
    print(os.getpid())
    return os.getpid()


def complain(text):
    print(text, file=sys.stderr)


def say_without_end(text):
    print(text, end="")


def write(text):
    os.write(1, text)
    os.writev(2, [text, b"!"])


def write_bytes(data):
    sys.stdout.buffer.write(data)


def run_shell(text):
    os.system(f"printf %s {text}; printf %s {text}! >&2")


def run_program(text):
    subprocess.run(["sh", "-c", f"printf %s {text}; printf %s {text}! >&2"], check=True)


def run_after_fork(text):
    subprocess.run(
        ["sh", "-c", f"printf %s {text}; printf %s {text}! >&2"], check=True, preexec_fn=os.getpid
    )


def spawn(text):
    args = ["sh", "-c", f"printf %s {text}; printf %s {text}! >&2"]
    os.waitpid(os.posix_spawn("/bin/sh", args, os.environ), 0)


def _say_both(text):
    print(text, end="", flush=True)
    print(f"{text}!", end="", file=sys.stderr)


def fork(text):
    child = multiprocessing.get_context("fork").Process(target=_say_both, args=(text,))
    child.start()
    child.join()


def fork_and_leave(text, path):
    """Leaves a child behind that prints when something was written to the pipe."""

    def wait_and_say():
        with open(path) as pipe:
            pipe.readline()
        _say_both(text)
        os._exit(0)

    if os.fork() == 0:
        wait_and_say()


def tell_and_wait_for_text(path, text, told):
    """Let the child that was left behind print, and go on when it has."""
    print("before")
    with open(path, "w") as pipe:
        pipe.write("go on\n")
    with open(told) as pipe:
        pipe.readline()
    print("after")
    return text


def print_from_c(text, rounds=1):
    libc = ctypes.PyDLL(None)
    for _ in range(rounds):
        libc.dprintf(1, text)


def run_twice_and_die(text):
    """Prints half a line and dies in the first attempt; the whole line in the second."""
    attempt = execution_context.attempt.attempt
    print(f"{text} {attempt}", end="", flush=True)
    if attempt == 0:
        os._exit(42)
    print(" done")


def fail_twice(text):
    attempt = execution_context.attempt.attempt
    print(f"{text} {attempt}")
    if attempt < 2:
        raise ValueError(attempt)


def put_file_in_place(path):
    saved = os.dup(1)
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    print("into the file")
    os.write(1, b"this too\n")
    os.dup2(saved, 1)
    print("into the pipe")
    os.close(file)
    os.close(saved)


def thread_that_prints(count):
    """A thread and the attempt print at a time."""

    def repeat():
        for number in range(count):
            print(f"thread {number}")

    thread = threading.Thread(target=repeat)
    thread.start()
    for number in range(count):
        print(f"attempt {number}")
    thread.join()


class Threaded:
    """An actor whose calls run in threads."""

    def __init__(self, count=2):
        self.barrier = threading.Barrier(count)
        print("made")

    def print_in_turns(self, tag, rounds):
        for number in range(rounds):
            print(tag, end=" ")
            print(f"{tag}!", file=sys.stderr)
            self.barrier.wait()
            print(number)
        print(tag, end="")
        self.barrier.wait()

    def print_long(self, tag, size):
        self.barrier.wait()
        print(tag * size)
        os.write(1, tag.encode() * size)
        sys.stdout.buffer.write(tag.encode() * size)

    def run_program(self):
        with subprocess.Popen(
            ["sh", "-c", "echo one; read line; echo two"], stdin=subprocess.PIPE
        ) as program:
            self.barrier.wait()
            self.barrier.wait()
            program.stdin.write(b"\n")

    def print_beside(self):
        self.barrier.wait()
        print("beside")
        self.barrier.wait()

    def start_thread(self):
        thread = threading.Thread(target=print, args=("from nobody",))
        thread.start()
        thread.join()


class Asynchronous:
    """An actor whose calls are coroutines."""

    def __init__(self):
        print("made")

    async def print_in_turns(self, tag, rounds):
        for number in range(rounds):
            print(tag, end=" ")
            await asyncio.sleep(0)
            print(number)
            await asyncio.to_thread(print, f"{tag} in a thread")
        print(tag, end="")


class Plain:
    def __init__(self, text):
        print(f"made {text}")

    def say(self, text):
        print(text)

    def die(self):
        print("dying", end="", flush=True)
        os._exit(1)


def ask_inside(text):
    """Print on both sides of a wait for another task."""
    print(f"{text} before")
    aioray.get(aioray.remote(say).remote(text))
    print(f"{text} after")
