/* The room of the extension module: all that knows Python's C API. */
#ifndef PDEATHSIG_MODULE_H
#define PDEATHSIG_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *pds_fork_exec(PyObject *module, PyObject *arguments);

#endif
