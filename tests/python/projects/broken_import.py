def make():
    raise RuntimeError("two\nlines")


graph = make()
