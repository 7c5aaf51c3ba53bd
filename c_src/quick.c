/* pdeathsig._quick: a second way into this same shared object, for start-up.
 *
 * Importing cffi's backend costs half a millisecond, more than all else that arming at start-up takes. So what
 * `import pdeathsig` and `import pdeathsig.auto` need is reached without it, by a plain extension module (PEP 489,
 * "Multiple modules in one library"; pdeathsig/__init__.py loads it); and so is the one call that is to cost no more
 * than its two system calls, and the one that is beneath every start of a program (fork_exec.c). Everything else goes
 * through cffi. */
#include "fork_exec.h"
#include "pdeathsig.h"

#include <signal.h>
#include <sys/auxv.h>

static PyObject *armed(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
    return PyLong_FromLong(pds_armed());
}

static PyObject *parent(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
    return PyLong_FromLong(pds_parent_may_signal() ? pds_parent() : -1);
}

static PyObject *arm_kill(PyObject *module, PyObject *notice)
{
    (void)module;
    const char *text = PyBytes_AsString(notice);
    if (text == NULL)
        return NULL;
    return PyLong_FromLong(pds_arm(SIGKILL, 0, pds_parent(), text, NULL, 0, ""));
}

static PyObject *arm_thread_kill(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
    return PyBool_FromLong(pds_arm_thread(SIGKILL) == 0);
}

static PyObject *secure(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
    return PyBool_FromLong(getauxval(AT_SECURE) != 0);
}

static PyObject *in_main_interpreter(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
#ifdef PYPY_VERSION /* which has one only */
    Py_RETURN_TRUE;
#else
    return PyBool_FromLong(PyInterpreterState_GetID(PyInterpreterState_Get()) == 0);
#endif
}

static PyMethodDef methods[] = {
    {"armed", armed, METH_NOARGS, "pds_armed()"},
    {"parent", parent, METH_NOARGS, "pds_parent(), or -1 if its parent-death signal would not reach us"},
    {"arm_kill", arm_kill, METH_O, "pds_arm() on our parent with SIGKILL; takes the line for stderr"},
    {"arm_thread_kill", arm_thread_kill, METH_NOARGS,
     "whether pds_arm_thread(SIGKILL) succeeded, with our parent alive"},
    {"secure", secure, METH_NOARGS, "getauxval(AT_SECURE)"},
    {"in_main_interpreter", in_main_interpreter, METH_NOARGS, "whether this is no subinterpreter"},
    {"fork_exec", pds_fork_exec, METH_VARARGS, "CPython's fork_exec, with the child bound"},
    {NULL, NULL, 0, NULL},
};

static int load(PyObject *module)
{
    (void)module;
    if (pds_init() < 0) {
        PyErr_SetString(PyExc_ImportError, pds_failed_call());
        return -1;
    }
    return 0;
}

/* Later than the stable ABI that this is built for, and refused by interpreters that do not know them. site runs in
 * every subinterpreter, and must find there that this process is armed already. */
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
