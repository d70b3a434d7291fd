def check(case, checks): pass
