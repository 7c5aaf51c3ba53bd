/* pdeathsig._quick: a second way into this same shared object, for start-up.
 *
 * Importing cffi's backend costs half a millisecond, more than all else that arming at start-up
 * takes. So what a start-up calls is reached without it, by a plain extension module (PEP 489,
 * "Multiple modules in one library"). So is what is beneath every start of a program (fork_exec.c).
 * pdeathsig/__init__.py loads the module. These functions have the names and the contract of
 * pdeathsig.h. All others are reached by cffi. */
#include "module.h"

#include "../pdeathsig.h"

#include <signal.h>
#include <sys/auxv.h>

enum { WATCHES_MAX = 64 };

/* A function without arguments. */
#define WITHOUT_ARGUMENTS(name, result)                                                                                \
    static PyObject *name(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))                                      \
    {                                                                                                                  \
        return result;                                                                                                 \
    }
WITHOUT_ARGUMENTS(armed, PyLong_FromLong(pds_armed()))
WITHOUT_ARGUMENTS(disarm, PyLong_FromLong(pds_disarm()))
WITHOUT_ARGUMENTS(exec_failed, PyLong_FromLong(pds_exec_failed()))
WITHOUT_ARGUMENTS(parent, PyLong_FromLong(pds_parent()))
WITHOUT_ARGUMENTS(parent_source, PyLong_FromLong(pds_parent_source()))
WITHOUT_ARGUMENTS(parent_may_signal, PyLong_FromLong(pds_parent_may_signal()))
WITHOUT_ARGUMENTS(failed_call, PyUnicode_FromString(pds_failed_call()))
WITHOUT_ARGUMENTS(secure, PyBool_FromLong(getauxval(AT_SECURE) != 0))
#ifdef PYPY_VERSION /* it has one only */
WITHOUT_ARGUMENTS(in_main_interpreter, PyBool_FromLong(1))
#else
WITHOUT_ARGUMENTS(in_main_interpreter, PyBool_FromLong(PyInterpreterState_GetID(PyInterpreterState_Get()) == 0))
#endif

static PyObject *lifeline_for_forked(PyObject *Py_UNUSED(module), PyObject *wanted)
{
    pds_lifeline_for_forked(PyObject_IsTrue(wanted));
    Py_RETURN_NONE;
}

static PyObject *exec_begins(PyObject *Py_UNUSED(module), PyObject *sig)
{
    return PyLong_FromLong(pds_exec_begins((int)PyLong_AsLong(sig)));
}

static PyObject *deliver_now(PyObject *Py_UNUSED(module), PyObject *notice)
{
    const char *text = PyBytes_AsString(notice);
    return text == NULL ? NULL : PyLong_FromLong(pds_deliver_now(text));
}

/* The items of a sequence as PIDs. -1: an exception is set. */
static int read_pids(PyObject *sequence, int *pids)
{
    Py_ssize_t count = PySequence_Size(sequence);
    if (count > WATCHES_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many processes to watch");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        pids[i] = item == NULL ? -1 : (int)PyLong_AsLong(item);
        Py_XDECREF(item);
    }
    return PyErr_Occurred() ? -1 : (int)count;
}

static PyObject *arm(PyObject *Py_UNUSED(module), PyObject *args)
{
    int sig, parent, given, pids[WATCHES_MAX];
    long long grace_ns;
    const char *notice, *watch_notices;
    Py_ssize_t length;
    PyObject *watches;
    if (!PyArg_ParseTuple(args, "iLiyOiy#", &sig, &grace_ns, &parent, &notice, &watches, &given, &watch_notices,
                          &length))
        return NULL;
    int count = read_pids(watches, pids);
    if (count < 0)
        return NULL;
    PyThreadState *state = PyEval_SaveThread();
    int r = pds_arm(sig, grace_ns, parent, notice, pids, count, watch_notices);
    PyEval_RestoreThread(state);
    return PyLong_FromLong(r);
}

static PyMethodDef methods[] = {
    {"pds_armed", armed, METH_NOARGS, ""},
    {"pds_arm", arm, METH_VARARGS, ""},
    {"pds_disarm", disarm, METH_NOARGS, ""},
    {"pds_exec_begins", exec_begins, METH_O, ""},
    {"pds_exec_failed", exec_failed, METH_NOARGS, ""},
    {"pds_deliver_now", deliver_now, METH_O, ""},
    {"pds_parent", parent, METH_NOARGS, ""},
    {"pds_parent_source", parent_source, METH_NOARGS, ""},
    {"pds_parent_may_signal", parent_may_signal, METH_NOARGS, ""},
    {"pds_failed_call", failed_call, METH_NOARGS, ""},
    {"pds_lifeline_for_forked", lifeline_for_forked, METH_O, ""},
    {"secure", secure, METH_NOARGS, "getauxval(AT_SECURE)"},
    {"in_main_interpreter", in_main_interpreter, METH_NOARGS, "whether this is no subinterpreter"},
    {"fork_exec", pds_fork_exec, METH_VARARGS, "CPython's fork_exec, with the child bound"},
    {NULL, NULL, 0, NULL},
};

static int load(PyObject *Py_UNUSED(module))
{
    if (pds_init() < 0) {
        PyErr_SetString(PyExc_ImportError, pds_failed_call());
        return -1;
    }
    return 0;
}

/* Later than the stable ABI that this is built for, and refused by interpreters that do not know
 * them. site runs in every subinterpreter, and must find there that this process is armed
 * already. */
enum { MULTIPLE_INTERPRETERS = 3, GIL = 4 };
static void *const PER_INTERPRETER_GIL_SUPPORTED = (void *)2, *const GIL_NOT_USED = (void *)1;

static PyModuleDef_Slot slots[4] = {{Py_mod_exec, load}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "pdeathsig._quick", .m_methods = methods,
                                 .m_slots = slots};

PyMODINIT_FUNC PyInit__quick(void)
{
    PyObject *version = PySys_GetObject("hexversion");
    long hex = version == NULL ? 0 : PyLong_AsLong(version);
    if (hex >= 0x030c0000)
        slots[1] = (PyModuleDef_Slot){MULTIPLE_INTERPRETERS, PER_INTERPRETER_GIL_SUPPORTED};
    if (hex >= 0x030d0000)
        slots[2] = (PyModuleDef_Slot){GIL, GIL_NOT_USED};
    return PyModuleDef_Init(&definition);
}
