# lethe_warnings(target): this project's own code builds without a warning; users keep their flags.
# -Wrestrict is off for g++ 12, which finds overlaps in the standard library's own string + string
# (GCC bug 105651).
function(lethe_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow -Werror
      $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>)
endfunction()
