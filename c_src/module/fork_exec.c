/* pdeathsig._quick.fork_exec: pds_spawn in the place of CPython's _posixsubprocess.fork_exec.
 *
 * Each start comes by here with cold caches, so it uses no cffi, and copies no string. It converts
 * and refuses its arguments as CPython does. */
#include "module.h"

#include "../spawn/spawn.h"

#include <limits.h>
#include <sys/wait.h>

enum { GROUPS_MAX = 65536 };

/* For count items, and a NULL after them. */
static void *room_for(Py_ssize_t count, size_t size)
{
    void *room = PyMem_Calloc((size_t)count + 1, size);
    return room != NULL ? room : PyErr_NoMemory();
}

/* Strings for the child: they point into what *owner holds. */
static bool take(PyObject **owner, char ***pointers, PyObject *sequence, bool are_paths)
{
    *owner = PySequence_List(sequence);
    if (*owner == NULL)
        return false;
    Py_ssize_t count = PyList_Size(*owner);
    *pointers = room_for(count, sizeof **pointers);
    if (*pointers == NULL)
        return false;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GetItem(*owner, i);
        if (are_paths && (!PyUnicode_FSConverter(item, &item) || PyList_SetItem(*owner, i, item) < 0))
            return false;
        if (PyBytes_AsStringAndSize(item, &(*pointers)[i], NULL) < 0)
            return false;
    }
    return true;
}

static bool take_keep(int **into, int *count, PyObject *keep)
{
    *count = (int)PyTuple_Size(keep);
    *into = room_for(*count, sizeof **into);
    if (*into == NULL)
        return false;
    for (int i = 0, before = -1; i < *count; before = (*into)[i++]) {
        PyObject *item = PyTuple_GetItem(keep, i);
        long fd = PyLong_Check(item) ? PyLong_AsLong(item) : -1;
        if (fd <= before || fd > INT_MAX) {
            PyErr_SetString(PyExc_ValueError, "bad value(s) in fds_to_keep");
            return false;
        }
        (*into)[i] = (int)fd;
    }
    return true;
}

static bool take_groups(uint32_t **into, int *count, PyObject *list)
{
    Py_ssize_t size = PySequence_Size(list);
    if (size < 0)
        return false;
    if (size > GROUPS_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many extra_groups");
        return false;
    }
    *into = room_for(size, sizeof **into);
    if (*into == NULL)
        return false;
    for (*count = 0; *count < size; ++*count) {
        PyObject *item = PySequence_GetItem(list, *count);
        if (item == NULL)
            return false;
        bool is_integer = PyLong_Check(item);
        long long group = is_integer ? PyLong_AsLongLong(item) : -1;
        Py_DECREF(item);
        if (group < 0 || group >= UINT32_MAX) {
            PyErr_SetString(is_integer ? PyExc_ValueError : PyExc_TypeError,
                            is_integer ? "invalid group id" : "groups must be integers");
            return false;
        }
        (*into)[*count] = (uint32_t)group;
    }
    return true;
}

/* As for chown(2), -1 and its unsigned twin mean: as it is. */
static bool take_identity(int64_t *into, const char *name, PyObject *number)
{
    if (number == Py_None)
        return true;
    int overflow;
    long long id = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (id == -1 && PyErr_Occurred())
        return false;
    if (overflow != 0 || id < -1 || id > UINT32_MAX) {
        PyErr_Format(PyExc_OverflowError, "%s is %s", name,
                     overflow < 0 || id < -1 ? "less than minimum" : "greater than maximum");
        return false;
    }
    *into = id == UINT32_MAX ? -1 : id;
    return true;
}

/* Before an exception can interrupt. If the PID of a child cannot be noted, the child ends. */
static PyObject *noted(pid_t pid, PyObject *started)
{
    PyObject *number = PyLong_FromLong(pid);
    if (pid < 0 || (number != NULL && PyList_Append(started, number) == 0))
        return number;
    Py_XDECREF(number);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return NULL;
}

/* Takes a list for the PID, what pds_spawn has to know besides, and then CPython's arguments.
 * Returns the PID, or -errno as all of pdeathsig.h. */
PyObject *pds_fork_exec(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *started, *args, *executable_list, *keep_tuple, *cwd_path, *env_list, *gid, *group_list, *uid, *preexec_fn;
    struct pds_spawn s = {.uid = -1, .gid = -1, .groups_count = -1, .share_memory = 1};
    if (!PyArg_ParseTuple(arguments, "O!iippp" /* and now as CPython */ "OOpO!OOiiiiiiiippiOOOiO|p:fork_exec",
                          &PyList_Type, &started, &s.sig, &s.lifeline, &s.group, &s.says_chdir, &s.threads, &args,
                          &executable_list, &s.close_fds, &PyTuple_Type, &keep_tuple, &cwd_path, &env_list, &s.p2cread,
                          &s.p2cwrite, &s.c2pread, &s.c2pwrite, &s.errread, &s.errwrite, &s.errpipe_read,
                          &s.errpipe_write, &s.restore_signals, &s.new_session, &s.process_group, &gid, &group_list,
                          &uid, &s.umask, &preexec_fn, &s.share_memory))
        return NULL;
    if (s.close_fds && s.errpipe_write < 3) {
        PyErr_SetString(PyExc_ValueError, "errpipe_write must be >= 3");
        return NULL;
    }

    PyObject *executables = NULL, *argv = NULL, *envp = NULL, *cwd = NULL, *result = NULL;
    if (take_keep(&s.keep, &s.keep_count, keep_tuple) && take(&executables, &s.executables, executable_list, false) &&
        take(&argv, &s.argv, args, true) && (env_list == Py_None || take(&envp, &s.envp, env_list, false)) &&
        (cwd_path == Py_None || PyUnicode_FSConverter(cwd_path, &cwd)) &&
        (group_list == Py_None || take_groups(&s.groups, &s.groups_count, group_list)) &&
        take_identity(&s.gid, "gid", gid) && take_identity(&s.uid, "uid", uid)) {
        s.cwd = cwd == NULL ? NULL : PyBytes_AsString(cwd);
        PyThreadState *state = PyEval_SaveThread();
        pid_t pid = pds_spawn(&s);
        PyEval_RestoreThread(state);
        result = noted(pid, started);
    }
    Py_XDECREF(executables);
    Py_XDECREF(argv);
    Py_XDECREF(envp);
    Py_XDECREF(cwd);
    PyMem_Free(s.executables);
    PyMem_Free(s.argv);
    PyMem_Free(s.envp);
    PyMem_Free(s.keep);
    PyMem_Free(s.groups);
    return result;
}
