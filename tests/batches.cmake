# lethe_tests(prefix files...): a test of ctest for each file, named by the prefix and the file. Sets
# lethe_test_programs to the programs, for what all of them link.
#
# LETHE_TEST_BATCH files make one program, and one unit of the compiler: what several of them instantiate
# is compiled once. Each has a namespace of its own, and its name before its cases' names; all their includes stand
# before them, and macros last to the end. That a file has all that it includes shows where the batch is 1.
set(LETHE_TEST_BATCH 1 CACHE STRING "Test files that are compiled together")

# test_batch(name prefix files...): one program of several files.
function(test_batch name prefix)
  set(includes)
  set(units)
  foreach(file IN LISTS ARGN)
    cmake_path(GET file STEM stem)
    cmake_path(ABSOLUTE_PATH file OUTPUT_VARIABLE path)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
    # Within the namespace these lines would declare what they include there.
    file(STRINGS ${path} lines REGEX "^#include ")
    list(APPEND includes ${lines})
    string(APPEND units "#define LETHE_TEST_FILE \"${stem}: \"\n"
                        "namespace ${stem} {\n#include \"${path}\"\n}\n#undef LETHE_TEST_FILE\n")
  endforeach()
  list(REMOVE_DUPLICATES includes)
  list(JOIN includes "\n" includes)
  set(names "#undef TEST_CASE\n#define TEST_CASE(...) INTERNAL_CATCH_TESTCASE(LETHE_TEST_FILE __VA_ARGS__)")
  set(unit ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  file(CONFIGURE OUTPUT ${unit} CONTENT "${includes}\n${names}\n${units}" @ONLY)

  add_executable(${name} ${unit})
  lethe_test_options(${name})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_precompile_headers(${name} REUSE_FROM lethe_test_header)
  foreach(file IN LISTS ARGN)
    cmake_path(GET file STEM stem)
    add_test(NAME ${prefix}${stem} COMMAND ${name} --filenames-as-tags "[#${stem}]")
    # Catch2 v2 calls a filter that finds nothing a success.
    set_tests_properties(${prefix}${stem} PROPERTIES
                         FAIL_REGULAR_EXPRESSION "No test cases matched;No tests ran")
    add_custom_target(${prefix}${stem} DEPENDS ${name})
  endforeach()
endfunction()

function(lethe_tests prefix)
  set(programs)
  set(batch)
  set(left ${ARGN})
  while(left)
    list(POP_FRONT left file)
    list(APPEND batch ${file})
    list(LENGTH batch count)
    if(left AND count LESS LETHE_TEST_BATCH)
      continue()
    endif()
    if(LETHE_TEST_BATCH GREATER 1)
      list(LENGTH programs number)
      set(name ${prefix}tests_${number})
      test_batch(${name} "${prefix}" ${batch})
    else()
      cmake_path(GET file STEM stem)
      set(name ${prefix}${stem})
      lethe_test(${name} ${file})
    endif()
    list(APPEND programs ${name})
    set(batch)
  endwhile()
  set(lethe_test_programs ${programs} PARENT_SCOPE)
endfunction()
