/**
 * Values between the two processes, as JSON a line. Only plain data passes: what a program returns cannot bring methods of its own
 * (an object that equals everything) to the side that compares it.
 */
const values = `
import json
def encode(value, depth=0):
    if depth > 200: raise ValueError("the value is nested too deeply")
    inner = lambda item: encode(item, depth + 1)
    if value is None or value is True or value is False: return value
    if isinstance(value, int): return {"i": hex(int.__int__(value))}
    if isinstance(value, float): return {"f": float.hex(float.__float__(value))}
    if isinstance(value, complex): return {"c": [inner(value.real), inner(value.imag)]}
    if isinstance(value, str): return {"s": [ord(letter) for letter in value]} if any(0xd800 <= ord(letter) < 0xe000 for letter in value) else str.__str__(value)
    if isinstance(value, (bytes, bytearray)): return {"b": bytes(value).hex()}
    if isinstance(value, list): return [inner(item) for item in list.__iter__(value)]
    if isinstance(value, tuple): return {"t": [inner(item) for item in tuple.__iter__(value)]}
    if isinstance(value, dict): return {"d": [[inner(key), inner(item)] for key, item in dict.items(value)]}
    if isinstance(value, frozenset): return {"z": [inner(item) for item in frozenset.__iter__(value)]}
    if isinstance(value, set): return {"e": [inner(item) for item in set.__iter__(value)]}
    if isinstance(value, range): return {"r": [inner(value.start), inner(value.stop), inner(value.step)]}
    raise TypeError("a value of the type " + type(value).__name__ + " is no plain data")
def decode(value):
    if value is None or value is True or value is False or type(value) is str: return value
    if type(value) is list: return [decode(item) for item in value]
    (kind, content), = value.items()
    if kind == "i": return int(content, 16)
    if kind == "f": return float.fromhex(content)
    if kind == "c": return complex(decode(content[0]), decode(content[1]))
    if kind == "s": return "".join(map(chr, content))
    if kind == "b": return bytes.fromhex(content)
    if kind == "t": return tuple(decode(item) for item in content)
    if kind == "d": return {decode(key): decode(item) for key, item in content}
    if kind == "z": return frozenset(decode(item) for item in content)
    if kind == "e": return {decode(item) for item in content}
    if kind == "r": return range(*map(decode, content))
    raise ValueError("no such kind of value")
`;

/** Limits of this process and all that it starts; they cannot be raised again. */
const confine = `
import os, resource, sys
def confine(limits):
    for name, most in (("AS", limits["memoryBytes"]), ("NPROC", limits["processes"]), ("FSIZE", 0), ("CPU", limits["cpuSeconds"]), ("CORE", 0), ("NOFILE", 64)):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
def complain(error):
    try:
        sys.stderr.write((type(error).__name__ + ": " + str(error))[:300].replace("\\n", " "))
        sys.stderr.flush()
    finally:
        os._exit(1)
`;

/**
 * The program's process. Reads the program, says that it starts, runs it, then answers calls of its function: one line in, one line
 * out. It is told nothing but the arguments of each call.
 */
export const programSource = `${values}${confine}
def serve():
    calls = os.fdopen(os.dup(0), "rb")
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    job = json.loads(calls.readline())
    replies = os.fdopen(3, "wb", buffering=0)
    confine(job["limits"])
    def reply(value):
        line = memoryview(json.dumps(value).encode() + b"\\n")
        while line: line = line[replies.write(line):]
    reply("started")
    space = {}
    try:
        exec(compile(job["program"], "program", "exec"), space)
        function = space[job["entryPoint"]]
    except BaseException as error:
        reply({"error": [type(error).__name__, str(error)[:300]]})
        os._exit(1)
    reply("ready")
    for line in calls:
        try:
            arguments, named = json.loads(line)
            reply({"value": encode(function(*map(decode, arguments), **{name: decode(value) for name, value in named}))})
        except BaseException as error:
            reply({"error": [type(error).__name__, str(error)[:300]]})
serve()
`;

/** What a reply may have; a longer one fails the program. */
const replyLimitBytes = 16 * 2 ** 20;

/**
 * The judge's process: it has the test and the verdict, and calls the program's function in the other process. Functions that the
 * prompt itself defines are there for the test; the one under test is replaced by the call.
 */
export const judgeSource = `${values}${confine}
import builtins
def judge():
    replies = os.fdopen(os.dup(0), "rb")
    job = json.loads(replies.readline())
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    verdict, calls = os.fdopen(3, "wb", buffering=0), os.fdopen(4, "wb", buffering=0)
    confine(job["limits"])
    class Failed(BaseException): pass
    def said():
        line = replies.readline(${replyLimitBytes})
        if not line.endswith(b"\\n"): raise Failed("the program ended, or its reply has no end")
        reply = json.loads(line)
        if type(reply) is not dict or "error" not in reply: return reply
        name, text = str(reply["error"][0])[:100], str(reply["error"][1])[:300]
        known = getattr(builtins, name, None)
        try: error = known(text) if issubclass(known, Exception) else None
        except TypeError: error = None
        raise error or Failed(name + ": " + text)
    def candidate(*arguments, **named):
        line = memoryview(json.dumps([[encode(value) for value in arguments], [[name, encode(value)] for name, value in named.items()]]).encode() + b"\\n")
        while line: line = line[calls.write(line):]
        return decode(said()["value"])
    def helpers():
        # The prompt ends where the function's body is due.
        for body in ("", "    pass\\n", "  pass\\n", "\\tpass\\n", " pass\\n"):
            try: return compile(job["prompt"] + body, "prompt", "exec")
            except SyntaxError as error: problem = error
        raise problem
    try:
        if said() != "ready": raise Failed("the program did not start")
        space = {}
        exec(helpers(), space)
        space[job["entryPoint"]] = candidate
        exec(compile(job["test"], "test", "exec"), space)
        space["check"](candidate)
    except BaseException as error:
        complain(error)
    verdict.write(job["token"].encode())
    os._exit(0)
judge()
`;
