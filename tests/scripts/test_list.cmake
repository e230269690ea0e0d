# Fails when a tests/*_test.cpp is not in the list of tests/CMakeLists.txt.
file(GLOB found RELATIVE ${FOLDER} ${FOLDER}/*_test.cpp)
list(REMOVE_ITEM found ${LISTED})
if(found)
  message(FATAL_ERROR "not in the list of tests/CMakeLists.txt: ${found}")
endif()
