# lethe_cold_code(target): code that computes little; -O3 would take longer to compile it than it ever
# saves, as would any optimisation under sanitizers.
function(lethe_cold_code target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1> $<$<CONFIG:None>:-O0>)
endfunction()
