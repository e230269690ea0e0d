# consumer_executable(): two units that use the library, under strict warnings.
function(consumer_executable)
  add_executable(consumer ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/source/main.cpp
                          ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/source/other.cpp)
  target_link_libraries(consumer PRIVATE lethe::lethe)
  target_compile_options(consumer PRIVATE -Wall -Wextra -Wconversion -Wshadow -Werror)
endfunction()
