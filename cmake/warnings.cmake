# lethe_warnings(target): this project's own code builds without a warning; users keep their flags.
function(lethe_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow -Werror)
endfunction()
