import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Permission;
import java.util.Arrays;

/**
 * Runs the published FDL compiler for many programs in one virtual machine.
 *
 * The argument names a file with one call a line: a name and the compiler's arguments, separated by tabs.
 * For each call one line is written: the name, the exit status (70 for an exception) and what was printed.
 */
public class FdlOracle {
    static class Exit extends SecurityException {
        final int status;

        Exit(int status) {
            this.status = status;
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.setSecurityManager(new SecurityManager() {
            @Override
            public void checkExit(int status) {
                throw new Exit(status);
            }

            @Override
            public void checkPermission(Permission permission) {
            }
        });
        PrintStream output = System.out;
        PrintStream errors = System.err;
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] call = line.split("\t");
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            PrintStream capture = new PrintStream(printed, true, StandardCharsets.UTF_8);
            System.setOut(capture);
            System.setErr(capture);
            int status = run(Arrays.copyOfRange(call, 1, call.length), capture);
            System.setOut(output);
            System.setErr(errors);
            String text = printed.toString(StandardCharsets.UTF_8);
            output.println(call[0] + "\t" + status + "\t" + text.replaceAll("\\s+", " "));
        }
    }

    private static int run(String[] arguments, PrintStream capture) {
        try {
            io.causallabs.compiler.Compiler.main(arguments);
            return 0;
        } catch (Exit exit) {
            return exit.status;
        } catch (Throwable failure) {
            failure.printStackTrace(capture);
            return 70;
        }
    }
}
