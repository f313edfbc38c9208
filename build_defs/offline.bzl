"""Stand-ins for repositories that a Bazel without modules or a network cannot fetch."""

def _native_rules_impl(ctx):
    ctx.file("BUILD", "")
    ctx.file(ctx.attr.directory + "/BUILD", "")
    lines = ["%s = native.%s" % (rule, rule) for rule in ctx.attr.rules]
    ctx.file(ctx.attr.directory + "/defs.bzl", "\n".join(lines) + "\n")

native_rules = repository_rule(
    implementation = _native_rules_impl,
    attrs = {
        "directory": attr.string(),
        "rules": attr.string_list(),
    },
    doc = "`@name//directory:defs.bzl` with Bazel's native rules.",
)

def _installed_packages_impl(ctx):
    names = []
    for line in ctx.read(ctx.attr.requirements_lock).splitlines():
        name = line.partition("==")[0].strip()
        if name and not name.startswith("#"):
            names.append(name.lower().replace("-", "_").replace(".", "_"))
    target = 'py_library(name = "%s", visibility = ["//visibility:public"])'
    ctx.file("BUILD", "\n".join([target % name for name in names]) + "\n")
    ctx.file("requirements.bzl", """
def requirement(name):
    return "@%s//:" + name.lower().replace("-", "_")
""" % ctx.name)

installed_packages = repository_rule(
    implementation = _installed_packages_impl,
    attrs = {"requirements_lock": attr.label(allow_single_file = True)},
    doc = "An empty library per locked requirement: the Python on PATH has the packages.",
)
