#ifndef PDEATHSIG_FORK_EXEC_H
#define PDEATHSIG_FORK_EXEC_H

#include <Python.h>

PyObject *pds_fork_exec(PyObject *module, PyObject *arguments);

#endif
