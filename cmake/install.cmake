include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/lethe)

install(TARGETS lethe EXPORT lethe-targets
        FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS lethe_cuda EXPORT lethe-cuda-targets
        FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT lethe-targets NAMESPACE lethe:: DESTINATION ${package_dir})
install(EXPORT lethe-cuda-targets NAMESPACE lethe:: DESTINATION ${package_dir})

configure_package_config_file(cmake/lethe-config.cmake.in ${PROJECT_BINARY_DIR}/lethe-config.cmake
                              INSTALL_DESTINATION ${package_dir}
                              NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lethe-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/lethe-config.cmake
              ${PROJECT_BINARY_DIR}/lethe-config-version.cmake
        DESTINATION ${package_dir})
