import com.example.shop.NewCheckoutRequest;
import com.example.shop.ProductInfoRequest;
import com.example.shop.RatingBoxRequest;
import com.example.shop.SearchRequest;
import com.example.shop.SessionRequest;
import io.causallabs.runtime.CausalClient;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Uses a generated client the way a shop would, and prints what it saw. Arguments: base URL, device id. */
public class IserverDriver {
  public static void main(String[] args) throws Exception {
    CausalClient client = CausalClient.init(args[0]);
    SessionRequest session =
        SessionRequest.builder().deviceId(args[1]).arrivalId("arr-1").channel("email").build();
    RatingBoxRequest box = RatingBoxRequest.builder().product("Café ☃").build();
    NewCheckoutRequest checkout = new NewCheckoutRequest();
    SearchRequest search = SearchRequest.builder().query("ext").build();
    client.request(session, "imp-1", box, checkout, search);
    System.out.println("box " + box.isActive() + " " + box.getActionButton() + " " + box.getProduct());
    System.out.println("checkout " + checkout.isActive());
    System.out.println("search " + search.isActive() + " " + search.getResultsExternal());
    System.out.println("session " + session.getDeviceId() + " " + session.getTier());
    System.out.println("impression " + box.getImpressionId() + " " + box.getImpressionCount());

    box.signalRating(4).get(20, TimeUnit.SECONDS);
    session.signalAddToCart(9.5, "s1", 2).get(20, TimeUnit.SECONDS);
    session.setUserId("u-7").get(20, TimeUnit.SECONDS);
    search.setResults(List.of());

    SearchRequest again = SearchRequest.builder().query("ext").build();
    ProductInfoRequest info = new ProductInfoRequest();
    client.request(session, "imp-2", again, info);
    System.out.println("again " + again.getImpressionCount() + " " + info.isActive());
    client.keepAlive(SessionRequest.fromArrivalId("arr-1"));
    System.exit(0);
  }
}
